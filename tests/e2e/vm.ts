// What the tests of whole stacks in QEMU have in common. All are in the long suite: without KVM a first boot takes minutes.
import * as assert from "uvu/assert";
import type { TestProject } from "./project.ts";

export interface UpResult {
  ok: boolean;
  hosts: { steps: { step: string; outcome: string }[] }[];
  checks: { id: string; ok: boolean; message: string }[];
  machines: { host: string; forwards: Record<string, string> }[];
}

/** Launches a stack by a firmware: `ingot up`, and every check must hold. */
export async function launched(project: TestProject, stack: string, firmware: "uefi" | "bios"): Promise<UpResult> {
  process.env.INGOT_FIRMWARE = firmware;
  const began = performance.now();
  const up = (await project.json(["up", stack])) as UpResult;
  console.log(`${stack} by ${firmware}: up in ${((performance.now() - began) / 1000).toFixed(0)} s, ${up.checks.length} checks`);
  assert.equal(
    up.hosts.flatMap((h) => h.steps).filter((s) => s.outcome !== "changed" && s.outcome !== "unchanged"),
    [],
  );
  assert.equal(
    up.checks.filter((c) => !c.ok),
    [],
  );
  assert.ok(up.ok);
  for (const { host } of up.machines)
    assert.is(
      (await project.on(`${stack}/${host}`, "test -d /sys/firmware/efi && echo uefi || echo bios")).stdout.trim(),
      firmware,
      `${host}'s firmware`,
    );
  return up;
}

/** Seconds that PostgreSQL's log may be behind without KVM, on a computer that is busy. */
export const late = 240;

/** Applied again, nothing is to change. */
export async function unchanged(project: TestProject, stack: string): Promise<void> {
  const applied = (await project.json(["apply", stack])) as { ok: boolean; changed: string[] };
  assert.equal([applied.ok, applied.changed], [true, []]);
}

/** Reboots a machine, and waits until it answers in its next boot. */
export async function rebooted(project: TestProject, machine: string): Promise<void> {
  const boot = async () => (await project.on(machine, "cat /proc/sys/kernel/random/boot_id")).stdout.trim();
  const before = await boot();
  await project.on(machine, "systemctl reboot");
  await eventually(async () => (["", before].includes(await boot()) ? "" : "booted"), /booted/);
}

/** Every check holds at last: what has just been powered on is not up yet. */
export async function holds(project: TestProject, stack: string): Promise<void> {
  const verified = await project.ingot(["verify", stack, "--within", "600"]);
  assert.is(verified.code, 0, verified.stderr);
}

/** What it says once it is like this, within ten minutes. */
export async function eventually(ask: () => Promise<string>, like: RegExp): Promise<string> {
  let seen = "";
  for (const end = performance.now() + 600_000; !like.test(seen) && performance.now() < end; ) {
    if (seen) await new Promise((resolve) => setTimeout(resolve, 1000));
    seen = (await ask().catch(String)) || " ";
  }
  assert.match(seen, like);
  return seen;
}
