// A client that commits row after row to a machine's database, and is told of each: what a lost disk has cost is counted by him.
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { toolFolder } from "../../lib/paths.ts";

export interface Writer {
  child: ChildProcess;
  /** Each row's number, and when it was committed (seconds since 1970). */
  told: { id: number; at: number }[];
  /** What went wrong, in the words of whoever said it. */
  wrong(): string;
}

/** Into `orders` of the database `shop`, some 15 rows a second, until he is killed or his machine is gone. @param folder the project's */
export function writer(folder: string, machine: string): Writer {
  const script = `cd / && exec runuser -u postgres -- sh -c 'i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo "insert into orders (id) select max(id)+1 from orders returning id, extract(epoch from clock_timestamp());"; sleep 0.05; done | stdbuf --output=L psql -XqAt shop'`;
  const ingot = [join(toolFolder, "dist/ingot.js"), "exec", machine, "--", "sh", "-c", script];
  const child = spawn(process.execPath, ingot, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  const told: Writer["told"] = [];
  let [rest, wrong] = ["", ""];
  child.stderr?.on("data", (chunk: Buffer) => (wrong += chunk.toString()));
  child.stdout?.on("data", (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) told.push({ id: Number(line.split("|")[0]), at: Number(line.split("|")[1]) });
  });
  return { child, told, wrong: () => wrong };
}
