// Gives moto's EC2 instances bodies: each instance that moto says is running is a machine on this computer, made by systemd-nspawn from the
// baked image that its AMI is tagged with, with the user-data, key, addresses, tags and volumes that moto has for it. What EC2 does and this
// does not: NVMe disks with serials (the disks are there by the names that Ingot's udev rule would give them), DMI, security groups.
// An instance that is tagged `test:hangs` goes on whatever EC2 says of it: as one that EC2 has lost sight of, with the keys that it had.
// A program for tests/ec2/ec2.ts, run in the namespace of the test's network: bodies.js <file with the settings as JSON>.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import {
  DescribeImagesCommand,
  DescribeInstanceAttributeCommand,
  DescribeInstancesCommand,
  DescribeKeyPairsCommand,
  DescribeSnapshotsCommand,
  DescribeVolumesCommand,
  type EC2Client,
  type Instance,
} from "@aws-sdk/client-ec2";
import { GetInstanceProfileCommand, IAMClient } from "@aws-sdk/client-iam";
import { AssumeRoleCommand, STSClient } from "@aws-sdk/client-sts";
import { toolFolder } from "../../lib/paths.ts";
import { groupThings, inGroup, manager } from "../../stacks/local/cgroup.ts";
import type { Containers } from "../../stacks/local/machine.ts";
import { macOf } from "../../stacks/local/names.ts";
import { nspawnArguments } from "../../stacks/local/nspawn.ts";
import { clientAt, region } from "../aws.ts";
import { type InstanceMetadata, startMetadata } from "./metadata.ts";

export interface BodiesSettings {
  /** The namespace with br0, which this program is in. */
  network: string;
  endpoint: string;
  /** Where machines and disks are kept. */
  folder: string;
  /** `.ingot/images`. */
  store: string;
}

interface Body {
  name: string;
  folder: string;
  metadata: InstanceMetadata;
  doors: Server[];
  /** The public address at which they are. */
  door?: string;
  /** Starts its supervisor, at first and after it was stopped. */
  start(): void;
  off: boolean;
  disks: string[];
}

const script = (name: string): string => join(toolFolder, "stacks/local", name);
const ip = (...args: string[]): void => void execFileSync("ip", args);

class Bodies {
  readonly #bodies = new Map<string, Body>();
  /** Also those that could not be made: nothing is tried twice. */
  readonly #begun = new Set<string>();
  readonly #ec2: EC2Client;
  #count = 0;

  constructor(readonly settings: BodiesSettings) {
    this.#ec2 = clientAt(settings.endpoint);
  }

  async look(): Promise<void> {
    const { Reservations = [] } = await this.#ec2.send(new DescribeInstancesCommand({}));
    const instances = Reservations.flatMap((r) => r.Instances ?? []);
    for (const [id, body] of this.#bodies) {
      const instance = instances.find((i) => i.InstanceId === id);
      const state = instance?.State?.Name;
      if (instance?.Tags?.some((t) => t.Key === "test:hangs")) continue;
      if (state === "running" && body.off) {
        body.start();
        body.off = false;
      } else if (state === "stopped" && !body.off) this.#powerOff(body);
      else if (state !== "running" && state !== "stopped" && state !== "stopping" && state !== "pending") this.#end(id, body);
    }
    for (const instance of instances) {
      const id = instance.InstanceId ?? "";
      // Tags come with RunInstances; disks are attached afterwards, and the host waits for them.
      if (instance.State?.Name === "running" && !this.#begun.has(id) && (await this.#disksAreThere(instance))) {
        this.#begun.add(id);
        this.#bodies.set(id, await this.#begin(id, instance));
      }
      const body = this.#bodies.get(id);
      if (!body) continue;
      this.#open(body, instance);
      if (!body.off) await this.#disks(id); // one may have grown
    }
  }

  /** Bind mounts are made at the start, so the start waits for what is declared to be attached. */
  async #disksAreThere(instance: Instance): Promise<boolean> {
    const host = tag(instance, "ingot:host");
    const { Volumes = [] } = await this.#ec2.send(new DescribeVolumesCommand({ Filters: [{ Name: "tag:ingot:host", Values: [host] }] }));
    // One that a rebuild has put aside bears no name of a volume.
    const own = Volumes.filter((v) => v.Tags?.some((t) => t.Key === "ingot:stack" && t.Value === tag(instance, "ingot:stack"))).filter(
      (v) => v.Tags?.some((t) => t.Key === "ingot:volume"),
    );
    return own.every((v) => v.Attachments?.some((a) => a.InstanceId === instance.InstanceId));
  }

  async #begin(id: string, instance: Instance): Promise<Body> {
    const { folder: root, network, endpoint, store } = this.settings;
    const name = `${network}-${this.#count}`;
    const folder = join(root, id);
    const address = instance.PrivateIpAddress ?? "";
    const first = !existsSync(folder);
    if (first) await this.#write(folder, id, instance);
    writeFileSync(join(folder, "aws.env"), `AWS_ENDPOINT_URL=${endpoint}\nAWS_EC2_METADATA_SERVICE_ENDPOINT=http://169.254.169.254\n`);
    const tags = Object.fromEntries((instance.Tags ?? []).map((t) => [t.Key ?? "", t.Value ?? ""]));
    const metadata: InstanceMetadata = { instance: id, address, region, tags, ...(await this.#roleOf(id, instance)) };
    const { Images = [] } = await this.#ec2.send(new DescribeImagesCommand({ ImageIds: [instance.ImageId ?? ""] }));
    const digest = Images[0]?.Tags?.find((t) => t.Key === "ingot:image")?.Value ?? "";
    const disks = await this.#disks(id);
    const settings = {
      NAME: name,
      NETWORK: network,
      LINK: `link${this.#count++}`,
      MAC: macOf(id),
      ADDRESS: `${address}/16`,
      FOLDER: folder,
      LOWER: join(store, digest, "root"),
      MANAGER: manager(),
      MEMORY: "",
      PERCENT: "",
      // Whatever is declared: an instance can always run containers.
      CONTAINERS: "yes",
    };
    const containers: Containers = { folder: "/var/lib/docker", on: "volume" };
    // On EC2 nobody brings facts, artifacts or a place for reports.
    const nspawn = nspawnArguments({ name, hostname: "ec2", folder, containers, shared: [] }).filter(
      (a) => !/:\/run\/ingot\/(facts|artifacts|report)$/.test(a),
    );
    const command = [`--bind-ro=${join(folder, "aws.env")}:/etc/ingot/aws.env`, ...nspawn];
    const [run = "", ...rest] = inGroup(name, ["sh", script("start.sh"), ...command]);
    const start = (): void => {
      execFileSync(run, rest, {
        env: { ...process.env, ...settings },
        input: disks.map((d) => `${d.name}\t${d.file}\n`).join(""),
        stdio: ["pipe", "inherit", "inherit"],
      });
    };
    start();
    // The bridge has the last address of each network of instances.
    ip("-n", name, "route", "add", "default", "via", address.replace(/\.\d+\.\d+$/, ".255.254"));
    return { name, folder, metadata, doors: [], start, off: false, disks: disks.map((d) => d.file) };
  }

  /** What EC2 gives an instance of its profile: the name of its role, and keys of it. */
  async #roleOf(RoleSessionName: string, { IamInstanceProfile }: Instance): Promise<Pick<InstanceMetadata, "role" | "credentials">> {
    const InstanceProfileName = IamInstanceProfile?.Arn?.split("/").at(-1);
    if (InstanceProfileName === undefined) return { credentials: { AccessKeyId: "", SecretAccessKey: "", Token: "" } };
    const at = { region, endpoint: this.settings.endpoint, credentials: { accessKeyId: "test", secretAccessKey: "test" } };
    const { InstanceProfile } = await new IAMClient(at).send(new GetInstanceProfileCommand({ InstanceProfileName }));
    const [role] = InstanceProfile?.Roles ?? [];
    const { Credentials: keys } = await new STSClient(at).send(new AssumeRoleCommand({ RoleArn: role?.Arn, RoleSessionName }));
    const credentials = {
      AccessKeyId: keys?.AccessKeyId ?? "",
      SecretAccessKey: keys?.SecretAccessKey ?? "",
      Token: keys?.SessionToken ?? "",
    };
    return { role: role?.RoleName ?? "", credentials };
  }

  async #write(folder: string, id: string, instance: Instance): Promise<void> {
    for (const part of ["seed", "facts/secrets", "artifacts"]) mkdirSync(join(folder, part), { recursive: true });
    const { UserData } = await this.#ec2.send(new DescribeInstanceAttributeCommand({ InstanceId: id, Attribute: "userData" }));
    const { KeyName } = instance;
    const { KeyPairs = [] } =
      KeyName === undefined ? {} : await this.#ec2.send(new DescribeKeyPairsCommand({ KeyNames: [KeyName], IncludePublicKey: true }));
    writeFileSync(join(folder, "seed/user-data"), Buffer.from(UserData?.Value ?? "", "base64"));
    writeFileSync(
      join(folder, "seed/meta-data"),
      JSON.stringify({ "instance-id": id, "local-hostname": "ec2", "public-keys": KeyPairs.map((k) => k.PublicKey?.trim()) }),
    );
    writeFileSync(join(folder, "seed/network-config"), "config: disabled\n");
    writeFileSync(join(folder, "console.log"), "");
  }

  /** Files that are kept by the volume's id, so that what is attached to another instance has its data still. */
  async #disks(instance: string): Promise<{ name: string; file: string }[]> {
    const { Volumes = [] } = await this.#ec2.send(
      new DescribeVolumesCommand({ Filters: [{ Name: "attachment.instance-id", Values: [instance] }] }),
    );
    const found = Volumes.flatMap((volume) => {
      const name = volume.Tags?.find((t) => t.Key === "ingot:volume")?.Value;
      return name === undefined ? [] : [{ volume, name, file: this.#fileOf(volume.VolumeId) }];
    });
    for (const { volume, file } of found) if (!existsSync(file)) await this.#make(file, volume.SnapshotId);
    return found.map(({ volume, name, file }) => {
      const size = (volume.Size ?? 1) * 2 ** 30;
      if (statSync(file).size < size) {
        truncateSync(file, size);
        execFileSync("sh", [
          "-c",
          `losetup --associated "$1" --noheadings --output NAME | xargs -r -n1 losetup --set-capacity`,
          "sh",
          file,
        ]);
      }
      return { name, file };
    });
  }

  #fileOf(volume = ""): string {
    return join(this.settings.folder, `${volume}.disk`);
  }

  /** Blank, or with what the volume of its snapshot holds now: nothing is kept at the time of the snapshot, which moto takes of no bytes. */
  async #make(file: string, snapshot: string | undefined): Promise<void> {
    const { Snapshots = [] } = snapshot ? await this.#ec2.send(new DescribeSnapshotsCommand({ SnapshotIds: [snapshot] })) : {};
    const from = this.#fileOf(Snapshots[0]?.VolumeId);
    if (existsSync(from)) execFileSync("cp", ["--sparse=always", "--reflink=auto", from, file]);
    else writeFileSync(file, "");
  }

  /** EC2's network address translation: the public address is this namespace's, and what comes to it is handed to the private one. */
  #open(body: Body, { PublicIpAddress: given, PrivateIpAddress, State }: Instance): void {
    const PublicIpAddress = State?.Name === "terminated" ? undefined : given;
    if (body.door === PublicIpAddress) return;
    // An Elastic IP takes the place of the address that the instance was launched with, and goes to its successor.
    for (const door of body.doors.splice(0)) door.close();
    body.door = PublicIpAddress;
    if (!PublicIpAddress || !PrivateIpAddress) return;
    if (!PublicIpAddress.startsWith("127.")) ip("addr", "replace", `${PublicIpAddress}/32`, "dev", "lo");
    for (const port of [22, 80, 443]) {
      const door = createServer((from) => {
        const to = connect(port, PrivateIpAddress);
        for (const [a, b] of [
          [from, to],
          [to, from],
        ] as const) {
          a.on("error", () => b.destroy());
          a.pipe(b);
        }
      });
      // Another instance may have it still.
      door.on("error", () => setTimeout(() => body.door === PublicIpAddress && door.listen(port, PublicIpAddress), 300).unref());
      door.listen(port, PublicIpAddress);
      body.doors.push(door);
    }
  }

  #powerOff(body: Body): void {
    for (const door of body.doors.splice(0)) door.close();
    body.door = undefined;
    const leader = read(join(body.folder, "run/leader"))?.split(" ")[0];
    if (leader !== undefined) execFileSync("sh", [script("stop.sh"), "10", leader]);
    body.off = true;
  }

  #end(id: string, body: Body): void {
    this.#bodies.delete(id);
    if (!body.off) this.#powerOff(body);
    const groups = groupThings(body.name, [body.name]).map((t) => (t.kind === "cgroup" ? `cgroup\t${t.name}\n` : ""));
    const folder = `folder\t${body.folder}\nnetns\t${body.name}\n`;
    const loops = body.disks.map((file) => `loop\t${file}\n`);
    execFileSync("sh", [join(toolFolder, "lib/undo.sh")], { input: [...groups, folder, ...loops].join("") });
  }

  /** The instance that has a private address. */
  metadataOf(address: string): InstanceMetadata | undefined {
    return [...this.#bodies.values()].find((b) => b.metadata.address === address)?.metadata;
  }

  endAll(): void {
    for (const [id, body] of this.#bodies) this.#end(id, body);
  }
}

const tag = (instance: Instance, key: string): string => instance.Tags?.find((t) => t.Key === key)?.Value ?? "";

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

const [, program = "", file] = process.argv;
if (/ec2\/bodies\.js$/.test(program) && file) {
  const bodies = new Bodies(JSON.parse(readFileSync(file, "utf8")) as BodiesSettings);
  // Every instance finds it by way of its default route.
  ip("addr", "add", "169.254.169.254/32", "dev", "lo");
  await startMetadata("169.254.169.254", 80, (address) => bodies.metadataOf(address));
  let over = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => (over = true));
  while (!over) {
    await bodies.look().catch((error: unknown) => console.error(error));
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  bodies.endAll();
  process.exit(0);
}
