// What the tests of drills ask of one: its report, its machines, and that nothing of it is left.
import type { ChildProcess } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { besideOf, projectAt, toolFolder } from "../../lib/paths.ts";
import { asRoot, tryRun } from "../../lib/run.ts";
import { networkName } from "../../stacks/local/names.ts";
import type { Drill } from "../../stacks/recovery/drill.ts";
import type { TestProject } from "./project.ts";

export interface Drilled {
  code: number;
  drill: Drill;
  stderr: string;
}

export interface Drills {
  /** A path below `.ingot/`. */
  state(...path: string[]): string;
  /** PID 1 of a machine, and when it began; undefined: it does not run. @param folder below `.ingot/` */
  leader(...folder: string[]): string | undefined;
  /** Which machine a host of production has on this computer. */
  machine(host: string): string;
  /** The networks of the drill and of its machines. */
  namespaces(): string[];
  nothingLeft(): void;
  /** Waits until the drill's machine has activated its generation. */
  activated(host: string): Promise<void>;
  /** Runs a script in the drill's machine, which no command of Ingot's leads to. */
  inside(host: string, script: string): Promise<string>;
  drilled(...more: string[]): Promise<Drilled>;
  /** The same, not waited for. */
  begin(...more: string[]): { child: ChildProcess; ended: Promise<Drilled> };
  /** Kills a drill once it has said that, and has the next command undo it. */
  killedAt(mark: string): Promise<void>;
}

export function drillsOf(project: TestProject, stack: string): Drills {
  const state: Drills["state"] = (...path) => join(project.folder, ".ingot", ...path);
  const leader: Drills["leader"] = (...folder) => {
    const file = state(...folder, "run/leader");
    return existsSync(file) ? readFileSync(file, "utf8").trim() : undefined;
  };
  const namespaces = () => {
    const name = networkName(besideOf(projectAt(project.folder), stack), stack);
    return readdirSync("/run/netns").filter((n) => n.startsWith(name));
  };
  const drills: Drills = {
    state,
    leader,
    namespaces,
    machine: (host) =>
      [
        leader("machines", stack, host),
        ...[`machines/${stack}/${host}/machine.json`, `ledger/machines.${stack}.json`].map((f) => readFileSync(state(f), "utf8")),
      ].join("\n"),
    nothingLeft() {
      assert.not.ok(existsSync(state("drills")));
      assert.not.ok(existsSync(state(`ledger/drill.${stack}.json`)));
      assert.equal(namespaces(), []);
      assert.equal(
        project.left().filter((line) => line.includes("/drills/")),
        [],
      );
    },
    async activated(host) {
      const file = state("drills", stack, "machines", stack, host, "report/steps.jsonl");
      const activated = () => existsSync(file) && /"generation"/.test(readFileSync(file, "utf8"));
      for (const end = performance.now() + 600_000; !activated(); ) {
        if (performance.now() > end) throw new Error(`the drill's ${host} has activated nothing within ten minutes`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    async inside(host, script) {
      const [pid = ""] = (leader("drills", stack, "machines", stack, host) ?? "").split(" ");
      const { stdout, stderr } = await tryRun(asRoot(["sh", join(toolFolder, "stacks/local/exec.sh"), pid, "sh", "-c", script]));
      return (stdout + stderr).trim();
    },
    begin(...more) {
      const { child, ended } = project.begin(["drill", stack, ...more, "--json"]);
      const report = ended.then(({ code, stdout, stderr }) => {
        try {
          return { code, drill: JSON.parse(stdout) as Drill, stderr };
        } catch {
          throw new Error(`no report: ${stdout}${stderr}`);
        }
      });
      return { child, ended: report };
    },
    drilled: (...more) => drills.begin(...more).ended,
    async killedAt(mark) {
      const { child, ended, said } = project.begin(["drill", stack]);
      await said(new RegExp(mark));
      child.kill("SIGKILL");
      const { stderr } = await ended;
      assert.ok(existsSync(state("drills")), `${mark}: ${stderr}`);
      const { stdout } = await project.ingot(["gc"]);
      assert.ok(stdout.includes(`undone: drill of ${stack}`), `${mark}: ${stdout}`);
      drills.nothingLeft();
    },
  };
  return drills;
}

/** The thousand orders and the picture of the stacks kept-* are there, proven and backed up anew; the rest of the stack is as its checks want it.
 * @param late seconds that PostgreSQL's log may be behind */
export function mustBeWhole({ hosts, checks, rpo_seconds: rpo }: Drill, late = 30): void {
  const db = hosts.find((h) => h.host === "db");
  assert.is(db?.proof?.postgresql?.timeline, 2);
  assert.is((db?.proof?.postgresql?.rows as Record<string, { rows: number }> | undefined)?.["shop:orders"]?.rows, 1000);
  assert.ok((db?.proof?.postgresql?.amcheck.relations ?? 0) > 300, JSON.stringify(db));
  assert.equal(db?.proof?.directories?.paths, ["/srv/data/media"]);
  assert.match(db?.backups.full ?? "", /^\d{8}-\d{6}F$/);
  assert.ok(checks.passed > 10);
  // 5 s of archive_timeout and of the heartbeat each, and what it takes to copy a piece of the log; on a computer that is busy.
  assert.ok(rpo !== null && rpo < late, String(rpo));
}
