// The old machine of a host that was rebuilt, as somebody who switches it on again finds it: its root, its disk `data`, and who it was.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { asRoot, run } from "../../lib/run.ts";
import { groupThings, inGroup, manager } from "../../stacks/local/cgroup.ts";
import { networkName } from "../../stacks/local/names.ts";
import { nspawnArguments } from "../../stacks/local/nspawn.ts";
import type { TestProject } from "./project.ts";

/** As root, in the folder of the machine, whose power has failed. */
const inFolder = ({ folder }: TestProject, machine: string, script: string) =>
  run(asRoot(["sh", "-euc", `cd "$0" && ${script}`, join(folder, ".ingot/machines", machine)]));
/** A disk of a machine whose power failed is nobody's. */
const detach = (disk: string) => `losetup --associated "${disk}" --noheadings --output NAME | xargs --no-run-if-empty losetup --detach`;

/** Puts it aside before its host is rebuilt; gives the folder. */
export async function putAside(project: TestProject, machine: string): Promise<string> {
  const old = join(project.folder, "old");
  const disk = project.disk(machine, "data");
  await inFolder(
    project,
    machine,
    `mkdir "${old}" && cp -a upper facts seed machine.json "${old}" && ${detach(disk)} && mv "${disk}" "${old}/data.img"`,
  );
  return old;
}

/** Puts it where its successor is, whose power has failed. @param old putAside()'s; the successor's disk is there as new.img afterwards */
export async function bringBack(project: TestProject, machine: string, old: string): Promise<void> {
  const disk = project.disk(machine, "data");
  await inFolder(
    project,
    machine,
    `umount root && rm -rf upper work facts seed && mv "${old}"/upper "${old}"/facts "${old}"/seed "${old}"/machine.json . && mkdir work && ${detach(disk)} && mv "${disk}" "${old}/new.img" && mv "${old}/data.img" "${disk}" && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,volatile ingot root`,
  );
}

/** Up again in its successor's place: what is written to it is not archived, it makes no backup, and an apply does not give it the right back.
 * @returns what its archive_command says of a piece of the log */
export async function archivesNothing(project: TestProject, machine: string): Promise<string> {
  const sql = (text: string) => project.sql(machine, "shop", text);
  await sql("insert into orders select max(id)+1 from orders; select pg_switch_wal()");
  let failed = "";
  for (let i = 0; i < 60 && !/[1-9]/.test(failed); i++) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    failed = await sql("select failed_count from pg_stat_archiver where last_archived_wal is null");
  }
  assert.match(failed, /^[1-9]/);
  const pushed = await project.on(
    machine,
    "cd /srv/data/postgresql/15/main && runuser -u postgres -- /usr/lib/ingot/pgbackrest-archive pg_wal/$(ls pg_wal | grep -m1 -E '^[0-9A-F]{24}$') 2>&1",
  );
  assert.is.not(pushed.code, 0, pushed.stdout);
  const backup = await project.ingot(["backup", machine, "--full"]);
  assert.is(backup.code, 1);
  assert.match(backup.stderr, /has taken the place of this machine/);
  assert.is((await project.ingot(["apply", machine])).code, 1);
  return pushed.stdout;
}

/** Switches it on beside its successor, at a cable of its own into the stack's network; the address was the old cable's, which is gone.
 * @param old putAside()'s @returns PID 1, and what ends it */
export async function switchOn(project: TestProject, machine: string, old: string): Promise<{ leader: string; end(): Promise<void> }> {
  const [stack = "", host = ""] = machine.split("/");
  const network = networkName(projectAt(project.folder), stack);
  const name = `${network}-old`;
  await inFolder(
    project,
    machine,
    `lower=$(readlink lower); cd "${old}"; ln -s "$lower" lower; mkdir work root run report artifacts
    mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,volatile ingot root
    ip netns add ${name}
    ip -n ${network} link add old0 type veth peer name host0 netns ${name}
    ip -n ${network} link set old0 master br0 up
    ip -n ${name} link set lo up
    ip -n ${name} link set host0 up
    losetup --find --show data.img >device`,
  );
  const device = readFileSync(join(old, "device"), "utf8").trim();
  const nspawn = nspawnArguments({ name, hostname: host, folder: old, shared: [] });
  const argv = ["sh", join(toolFolder, "stacks/local/supervise.sh"), `--bind=${device}:/dev/disk/by-id/ingot-data`, ...nspawn];
  const unit = ["systemd-run", "--quiet", "--collect", `--unit=${name}`, `--working-directory=${old}`, "--property=Delegate=yes"];
  const [program = "", ...words] = asRoot(manager() === "systemd" ? [...unit, ...argv] : inGroup(name, argv));
  spawn(program, words, { cwd: old, stdio: "ignore", detached: true }).unref();
  const file = join(old, "run/leader");
  for (let i = 0; i < 200 && !existsSync(file); i++) await new Promise((resolve) => setTimeout(resolve, 100));
  const [leader = ""] = readFileSync(file, "utf8").split(" ");
  const groups = groupThings(name, []).flatMap((thing) => (thing.kind === "cgroup" ? [thing.name] : []));
  return {
    leader,
    end: async () => {
      await run(asRoot(["kill", "-9", leader]));
      for (let i = 0; i < 100 && !existsSync(join(old, "run/exit")); i++) await new Promise((resolve) => setTimeout(resolve, 100));
      await inFolder(
        project,
        machine,
        `cd "${old}"; umount root; losetup --detach ${device}; ip netns delete ${name}; rm -rf /run/systemd/nspawn/propagate/${name}
        for group in ${groups.join(" ")}; do for tree in /sys/fs/cgroup/*/ /sys/fs/cgroup/; do
          [ ! -d "$tree$group" ] || find "$tree$group" -depth -type d -exec rmdir {} + || :; done; done`,
      );
    },
  };
}
