// Gives the instances that Packer launches a body: for each that moto says is running, a machine on this computer, by systemd-nspawn, of a copy of
// the tree that plays the distribution's own cloud image. Its user-data and its key are those that moto has for it, and it has its public address.
// When moto says that it was stopped, it is powered off; its tree stays for the test to look at. What EC2 does and this does not: a disk, a kernel.
// A program for tests/ec2/packer.root.e2e.test.ts, run in the namespace of the test's network: builders.js <file with the settings as JSON>.
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DescribeInstanceAttributeCommand, DescribeInstancesCommand, DescribeKeyPairsCommand, type Instance } from "@aws-sdk/client-ec2";
import { toolFolder } from "../../lib/paths.ts";
import { groupThings, inGroup } from "../../stacks/local/cgroup.ts";
import { clientAt } from "../aws.ts";

export interface BuildersSettings {
  network: string;
  endpoint: string;
  /** Where the machines are kept: `<instance>/root` is the tree, `<instance>/off` is there when it is powered off. */
  folder: string;
  /** The tree of the cloud image. */
  image: string;
}

const [, , file = ""] = process.argv;
const settings = JSON.parse(readFileSync(file, "utf8")) as BuildersSettings;
const ec2 = clientAt(settings.endpoint);
/** By instance: the pid of systemd-nspawn, or undefined when it is off. */
const bodies = new Map<string, number | undefined>();

const cut = (text: string): string => text.trim().split(" ").slice(0, 2).join(" ");

async function begin(id: string, instance: Instance): Promise<number> {
  const folder = join(settings.folder, id);
  const root = join(folder, "root");
  const seed = join(folder, "seed");
  mkdirSync(seed, { recursive: true });
  execFileSync("cp", ["--archive", "--reflink=auto", settings.image, root]);
  // The distribution's cloud-init does all that it does, and somebody was at work here before.
  execFileSync("rm", [join(root, "etc/cloud/cloud.cfg.d/99-ingot.cfg")]);
  mkdirSync(join(root, "opt/left"));
  writeFileSync(join(root, "etc/left-by-somebody"), "not of the image\n");
  chmodSync(join(root, "etc/left-by-somebody"), 0o4777);
  mkdirSync(join(root, "boot/grub/i386-pc"), { recursive: true });
  writeFileSync(join(root, "boot/grub/grub.cfg"), "# the cloud image's own\n");
  const { UserData } = await ec2.send(new DescribeInstanceAttributeCommand({ InstanceId: id, Attribute: "userData" }));
  const { KeyPairs = [] } = await ec2.send(new DescribeKeyPairsCommand({ KeyNames: [instance.KeyName ?? ""], IncludePublicKey: true }));
  writeFileSync(join(seed, "user-data"), Buffer.from(UserData?.Value ?? "", "base64"));
  writeFileSync(
    join(seed, "meta-data"),
    JSON.stringify({ "instance-id": id, "local-hostname": "builder", "public-keys": KeyPairs.map((k) => cut(k.PublicKey ?? "")) }),
  );
  writeFileSync(join(seed, "network-config"), "config: disabled\n");
  execFileSync("ip", ["addr", "replace", `${instance.PublicIpAddress}/32`, "dev", "lo"]);
  const log = openSync(join(folder, "console.log"), "a");
  const [program = "", ...rest] = inGroup(`${settings.network}-${id}`, [
    "systemd-nspawn",
    "--quiet",
    "--settings=no",
    `--directory=${root}`,
    `--machine=${id}`,
    "--register=no",
    "--keep-unit",
    "--console=read-only",
    "--link-journal=no",
    "--resolv-conf=off",
    "--timezone=off",
    `--bind-ro=${seed}:/var/lib/cloud/seed/nocloud`,
    "--boot",
  ]);
  const child = spawn(program, rest, { stdio: ["ignore", log, log], env: { ...process.env, SYSTEMD_NSPAWN_LOCK: "0" } });
  child.on("exit", () => {
    bodies.set(id, undefined);
    writeFileSync(join(folder, "off"), "");
  });
  return child.pid ?? 0;
}

/** SIGTERM is an orderly power-off for systemd-nspawn; whoever takes long for it is switched off. */
function powerOff(id: string): void {
  const pid = bodies.get(id);
  if (pid === undefined) return;
  process.kill(pid, "SIGTERM");
  setTimeout(() => {
    if (bodies.get(id) === undefined) return;
    for (const child of readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")) process.kill(Number(child), "SIGKILL");
  }, 120_000).unref();
}

async function look(): Promise<void> {
  const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({}));
  for (const instance of Reservations.flatMap((r) => r.Instances ?? [])) {
    const id = instance.InstanceId ?? "";
    const state = instance.State?.Name;
    // One at a time: all have the one network, and their ssh its port 22.
    const free = [...bodies.values()].every((pid) => pid === undefined);
    if (state === "running" && !bodies.has(id) && free) bodies.set(id, await begin(id, instance));
    else if (state !== "running" && state !== "pending" && !existsSync(join(settings.folder, id, "ending"))) {
      if (!bodies.has(id)) continue;
      writeFileSync(join(settings.folder, id, "ending"), "");
      powerOff(id);
    }
  }
}

let over = false;
for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => (over = true));
while (!over) {
  await look().catch((error: unknown) => console.error(error));
  await new Promise((resolve) => setTimeout(resolve, 300));
}
for (const id of bodies.keys()) {
  const groups = groupThings(`${settings.network}-${id}`, []).map((t) => (t.kind === "cgroup" ? `cgroup\t${t.name}\n` : ""));
  execFileSync("sh", [join(toolFolder, "lib/undo.sh")], { input: [...groups, `folder\t${join(settings.folder, id)}\n`].join("") });
  // Left by systemd-nspawn where it was not the one who ended.
  rmSync(join("/run/systemd/nspawn/propagate", id), { recursive: true, force: true });
}
process.exit(0);
