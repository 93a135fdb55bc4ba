// Which ports of a machine are open to a stranger in its stack's network, or to another machine there: every one is asked.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { connectTo } from "../../stacks/local/connection.ts";
import type { Machine } from "../../stacks/target.ts";
import type { TestProject } from "./project.ts";

const program = join(toolFolder, "tests/e2e/scan.py");
const numbers = (text: string): number[] => text.split("\n").filter(Boolean).map(Number);

/** To a machine, as in a project's `on`. */
export async function openFrom(project: TestProject, machine: string, address: string): Promise<number[]> {
  const { code, stdout, stderr } = await project.on(machine, `python3 - ${address}`, readFileSync(program, "utf8"));
  if (code !== 0) throw new Error(stderr);
  return numbers(stdout);
}

/** @param stack one of a test's project, running; @param host the name of one of its hosts */
export async function openPorts(project: TestProject, stack: string, host: string): Promise<number[]> {
  const machine = ((await project.json(["status", stack])) as Machine[]).find((m) => m.host === host);
  if (!machine) throw new Error(`${stack}/${host} is not up`);
  const scan = ["python3", program, machine.address];
  const { code, stdout, stderr } = await connectTo(projectAt(project.folder), machine).beside(scan, { timeoutSeconds: 600 });
  if (code !== 0) throw new Error(stderr);
  return numbers(stdout);
}
