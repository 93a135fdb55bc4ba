// ingot start: what `npm start` ends in. Bakes, launches and verifies the example stack, and says what happened.
import { parseArgs } from "node:util";
import { findImage } from "../images/store.ts";
import { short } from "../lib/digest.ts";
import { type Io, size } from "./command.ts";
import { summary, up } from "./up.ts";

export const help = `Bakes images/inloop.yaml, launches stacks/inloop.yaml on this computer, verifies it, and says what to try next.

  ingot start [stack]

When the stack is up already, it is verified where it stands; machines that \`ingot stop\` powered off are powered on again.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const began = performance.now();
  const stack = positionals[0] ?? "inloop";
  const { targetOf } = await import("./machines.ts");
  const target = await targetOf(io, stack);
  const there = await target.find(stack);
  if (there.length) {
    const off = there.some((m) => m.state === "stopped");
    if (off) await target.start(stack);
    else io.progress.say(`${stack} is up already: verifying it`);
    return (await import("./verify.ts")).main([stack, ...(off ? ["--within", "60"] : [])], io);
  }
  const result = await up(stack, "keep", io);
  if (io.json) {
    io.print(
      JSON.stringify(
        { stack, ok: result.ok, seconds: (performance.now() - began) / 1000, checks: result.checks, hosts: result.outcomes },
        null,
        2,
      ),
    );
    return result.ok ? 0 : 1;
  }
  for (const name of new Set(result.prepared.plan.hosts.map((h) => h.image.name))) {
    const image = findImage(io.project, name);
    if (!image) continue;
    const now = result.prepared.baked.find((b) => b.image.digest === image.digest);
    io.print(
      `\nimage ${name}: ${short(image.digest)}, ${Object.keys(image.manifest.packages).length} packages, ${size(image.manifest.size)}, ${now ? `baked in ${now.seconds.toFixed(1)} s` : `unchanged since ${image.manifest.baked}`}`,
    );
  }
  if (result.ok) io.print(summary(result));
  io.print(`\n${result.ok ? "done" : "failed"} after ${((performance.now() - began) / 1000).toFixed(1)} s`);
  return result.ok ? 0 : 1;
}
