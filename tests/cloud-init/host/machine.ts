// A machine for the host's end-to-end tests, and generations written by hand for it. machine.sh does what must be root.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Check, Step } from "../../../cloud-init/plan.ts";
import { canonicalJson, sha256 } from "../../../lib/digest.ts";
import { toolFolder } from "../../../lib/paths.ts";
import { tryRun } from "../../../lib/run.ts";
import type { ActivationEvent, StepEvent } from "../../../stacks/target.ts";

export const hostFolder: string = join(toolFolder, "cloud-init/host");
const script = join(toolFolder, "tests/cloud-init/host/machine.sh");
const enter = join(toolFolder, "stacks/local/enter.sh");

export interface HandWritten {
  steps: Step[];
  /** Path → content and mode. */
  files?: Record<string, { content: string; mode?: string }>;
  checks?: Check[];
}

/** A step with what most have. */
export function step(id: string, action: string, args: Step["args"], more: Partial<Step> = {}): Step {
  return { id, resource: id.replace(/:.*/, ""), after: [], action, args, done: "probe", timeoutSeconds: 60, ...more };
}

/** What the host is given of a generation: plan.json, the files' contents by their hashes, the digest. */
export function generation({ steps, files = {}, checks = [] }: HandWritten): { digest: string; contents: Record<string, string> } {
  const contents: Record<string, string> = {};
  const listed: Record<string, { sha256: string; mode: string }> = {};
  for (const [path, { content, mode = "0644" }] of Object.entries(files)) {
    const hash = sha256(content);
    listed[path] = { sha256: hash, mode };
    contents[`files/${hash}`] = content;
  }
  const plan = canonicalJson({ steps, files: listed, checks });
  return { digest: sha256(plan), contents: { ...contents, "plan.json": plan } };
}

export interface Activation {
  code: number;
  stderr: string;
  steps: Record<string, StepEvent>;
  end: ActivationEvent & { error?: string };
}

export class HostMachine {
  private constructor(
    readonly folder: string,
    private readonly child: ReturnType<typeof spawn>,
  ) {}

  /** Boots; the secrets, artifacts and disk are there before. */
  static async boot(root: string, secrets: Record<string, string>, artifacts: Record<string, Uint8Array>): Promise<HostMachine> {
    const folder = mkdtempSync("/var/tmp/ingot-host-");
    mkdirSync(join(folder, "facts/secrets"), { recursive: true, mode: 0o700 });
    mkdirSync(join(folder, "artifacts"));
    mkdirSync(join(folder, "report"));
    writeFileSync(join(folder, "facts/facts.json"), JSON.stringify({ secrets: "/run/ingot/facts/secrets" }));
    for (const [hash, bytes] of Object.entries(artifacts)) writeFileSync(join(folder, "artifacts", hash), bytes);
    const disk = join(folder, "disk");
    writeFileSync(disk, "");
    truncateSync(disk, 256 << 20);
    const child = spawn("sh", [enter, `ingot-host-test-${process.pid}`, "sh", script, "run", folder, root, disk], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const machine = new HostMachine(folder, child);
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void machine.end().finally(() => process.exit(130)));
    for (const [name, value] of Object.entries(secrets)) machine.secret(name, value);
    await machine.running();
    return machine;
  }

  secret(name: string, value: string): void {
    const path = join(this.folder, "facts/secrets", name);
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, value, { mode: 0o600 });
  }

  async running(): Promise<void> {
    for (const end = performance.now() + 300_000; performance.now() < end; ) {
      const { stdout } = await this.try(["systemctl", "is-system-running"]);
      if (/running|degraded/.test(stdout)) return;
      if (this.child.exitCode !== null) break;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`the machine did not boot:\n${readFileSync(join(this.folder, "console.log"), "utf8").slice(-3000)}`);
  }

  try(argv: string[], input?: string) {
    return tryRun(["sh", script, "exec", this.folder, ...argv], { input });
  }

  /** Standard output of a shell command that must succeed. */
  async sh(command: string): Promise<string> {
    const result = await this.try(["sh", "-euc", command]);
    if (result.code !== 0) throw new Error(`${command}: exit code ${result.code}\n${result.stdout}${result.stderr}`);
    return result.stdout.trim();
  }

  /** Lays a generation down as write_files does; gives its digest. */
  async lay(written: HandWritten): Promise<string> {
    const { digest, contents } = generation(written);
    const folder = `/var/lib/ingot/generations/${digest}`;
    await this.sh(`mkdir -p ${folder}/files`);
    for (const [name, content] of Object.entries(contents)) await this.try(["sh", "-c", `cat >"$0"`, `${folder}/${name}`], content);
    await this.sh(`echo ${digest} >/var/lib/ingot/next`);
    return digest;
  }

  async activate(written: HandWritten): Promise<Activation> {
    await this.lay(written);
    const { code, stderr } = await this.try(["/usr/lib/ingot/activate"]);
    return { code, stderr, ...this.report() };
  }

  report(): Pick<Activation, "steps" | "end"> {
    const lines = readFileSync(join(this.folder, "report/steps.jsonl"), "utf8").trimEnd().split("\n");
    const events = lines.map((line) => JSON.parse(line) as StepEvent | ActivationEvent);
    const steps = Object.fromEntries(events.flatMap((event) => ("step" in event ? [[event.step, event]] : [])));
    return { steps, end: events.at(-1) as ActivationEvent };
  }

  async reboot(): Promise<void> {
    const before = await this.sh("cat /proc/sys/kernel/random/boot_id; stat -c %Z /run/systemd/system");
    await this.try(["systemctl", "reboot"]);
    for (const end = performance.now() + 300_000; performance.now() < end; ) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      const { code, stdout } = await this.try(["sh", "-c", "cat /proc/sys/kernel/random/boot_id; stat -c %Z /run/systemd/system"]);
      if (code === 0 && stdout.trim() !== before) return this.running();
    }
    throw new Error("the machine did not come back");
  }

  async end(): Promise<void> {
    this.child.kill("SIGKILL");
    // unshare was exec'd by the child: the process namespace dies with it.
    await new Promise((resolve) => setTimeout(resolve, 500));
    const loop = join(this.folder, "loop");
    if (existsSync(loop)) execFileSync("losetup", ["--detach", readFileSync(loop, "utf8").trim()]);
    const undo = join(toolFolder, "lib/undo.sh");
    const groups = readFileSync("/proc/self/cgroup", "utf8").trimEnd().split("\n");
    const names = new Set(groups.map((line) => `${line.split(":")[2]?.replace(/^\/$/, "") ?? ""}/ingot-host-test-${process.pid}`));
    execFileSync("sh", [undo], { input: [...names].map((name) => `cgroup\t${name.replace(/^\//, "")}\n`).join("") });
    rmSync(this.folder, { recursive: true, force: true });
  }
}
