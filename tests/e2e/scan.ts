// Which ports of a machine are open to a stranger in its stack's network: every one is asked.
import { join } from "node:path";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { connectTo } from "../../stacks/local/connection.ts";
import type { Machine } from "../../stacks/target.ts";
import type { TestProject } from "./project.ts";

/** @param stack one of a test's project, running; @param host the name of one of its hosts */
export async function openPorts(project: TestProject, stack: string, host: string): Promise<number[]> {
  const machine = ((await project.json(["status", stack])) as Machine[]).find((m) => m.host === host);
  if (!machine) throw new Error(`${stack}/${host} is not up`);
  const scan = ["python3", join(toolFolder, "tests/e2e/scan.py"), machine.address];
  const { code, stdout, stderr } = await connectTo(projectAt(project.folder), machine).beside(scan, { timeoutSeconds: 120 });
  if (code !== 0) throw new Error(stderr);
  return stdout.split("\n").filter(Boolean).map(Number);
}
