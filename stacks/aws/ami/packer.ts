// An AMI by Packer: the real one, with the template that images/packer.ts compiles. Called by make.ts.
import { mkdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bytesOf } from "../../../images/lock.ts";
import { kindOf, type PackerKind, packerTemplate, plugins } from "../../../images/packer.ts";
import { type Wanted, wantedOf, writePackerFolder } from "../../../images/packer-folder.ts";
import { sleep } from "../../../lib/cancel.ts";
import { MissingError, RefusedError } from "../../../lib/diagnostics.ts";
import { lockWhenFree } from "../../../lib/lock.ts";
import { type Project, toolFolder } from "../../../lib/paths.ts";
import type { Progress, Task } from "../../../lib/progress.ts";
import { tryRun } from "../../../lib/run.ts";
import type { Aws } from "../api.ts";
import { call } from "../errors.ts";
import { type Ami, amiName, amiOf, amiTags, imageCalled, tagList } from "./ami.ts";

/** What the instance is like that makes the AMI; undefined is the default. */
export interface Builder {
  /** @default t3.medium, or t4g.medium for arm64 */
  instanceType?: string;
  /** @default one of the default VPC's */
  subnet?: string;
  /** @default public_ip */
  address?: "public_ip" | "private_ip";
  /** CIDRs that may reach its port 22. @default this computer's own address, as https://checkip.amazonaws.com sees it */
  sshFrom?: string[];
  /** An AMI of the recipe's release, and who logs in there. @default the newest of the distribution's own */
  source?: { ami: string; user: string };
  /** Minutes after which it ends itself, if nobody has ended it. @default 90 */
  minutes?: number;
}

export interface PackContext {
  project: Project;
  /** The recipe. */
  name: string;
  aws: Aws;
  /** Id of the run, by which `ingot gc` finds what it leaves. */
  run: string;
  /** Its snapshots are encrypted: with the key, or the account's default one. */
  encrypted?: { key?: string };
  builder?: Builder;
  progress: Progress;
}

/**
 * Makes the AMI of a recipe as it stands now; whether there is one already, and that nobody else makes it, is the caller's to see to.
 * @throws MissingError without Packer, RefusedError when it fails, Cancelled; none of them leaves anything in the account
 */
export async function packAmi(context: PackContext): Promise<Ami> {
  const { project, name, aws, progress } = context;
  const kind = await installed();
  const wanted = wantedOf(project, name);
  const folder = join(project.state, "aws/packer", name);
  mkdirSync(folder, { recursive: true });
  const sent = join(folder, "ingot-sent");
  const turn = await lockWhenFree(`packer ${realpathSync(folder)}`, `bake of ${name} by Packer`, (holder) =>
    progress.say(`waiting for the ${holder}`),
  );
  try {
    await writePackerFolder(project, wanted, sent, progress);
    const template = await templateOf(context, wanted, kind, folder);
    writeFileSync(join(folder, "template.json"), `${JSON.stringify(template, null, 2)}\n`);
    writeFileSync(join(folder, "plugins.pkr.hcl"), plugins);
    const id = await build(context, amiTags({ name, digest: wanted.digests.digest }, "packer", context.run), kind, folder);
    if (kind === "1.6") await requireTokens(aws, id);
    return await describe(aws, id);
  } finally {
    rmSync(sent, { recursive: true, force: true });
    turn.release();
  }
}

/** @throws MissingError */
async function installed(): Promise<PackerKind> {
  const mend = "sudo apt-get install packer (Debian's 1.6), or https://developer.hashicorp.com/packer/install";
  const { code, stdout } = await tryRun(["packer", "version"], { env: quiet }).catch((error: unknown) => {
    if (error instanceof MissingError) throw new MissingError("packer is not installed", mend);
    throw error;
  });
  const version = /Packer v?(\d[\d.]*)/.exec(stdout)?.[1];
  // There are other programs of that name (cracklib's).
  if (code !== 0 || version === undefined) throw new MissingError("the program `packer` of this computer is not HashiCorp's", mend);
  return kindOf(version);
}

const quiet = { CHECKPOINT_DISABLE: "1", PACKER_NO_COLOR: "1" };

async function templateOf(
  { project, name, aws, run, encrypted, builder = {} }: PackContext,
  wanted: Wanted,
  kind: PackerKind,
  folder: string,
) {
  const { recipe, digests } = wanted;
  const image = { name, digest: digests.digest };
  const facts = join(folder, "facts.tar.gz");
  const ingot = [process.execPath, join(toolFolder, "dist/ingot.js")];
  const { size } = recipe.disk;
  return packerTemplate(
    recipe,
    kind,
    {
      sent: join(folder, "ingot-sent"),
      facts,
      prove: { folder: project.folder, argv: [...ingot, "image", "prove", name, digests.digest, facts] },
    },
    {
      aws: {
        region: aws.region,
        source: builder.source,
        instanceType: builder.instanceType ?? { amd64: "t3.medium", arm64: "t4g.medium" }[recipe.architecture],
        // That of the distribution's own is as large as this, and what is made lies beside it.
        size: Math.max(8, size === undefined ? 0 : Math.ceil(bytesOf(size) / 2 ** 30)),
        sshFrom: builder.sshFrom ?? [await ownAddress()],
        address: builder.address ?? "public_ip",
        subnet: builder.subnet,
        encrypted,
        name: amiName(image),
        tags: amiTags(image, "packer", run),
        minutes: builder.minutes ?? 90,
        endpoint: process.env.AWS_ENDPOINT_URL_EC2 ?? process.env.AWS_ENDPOINT_URL,
      },
    },
  );
}

/** This computer's address, as Amazon sees it, as a CIDR. */
async function ownAddress(): Promise<string> {
  const hint = "say from where it is called: `--ssh-from <address>/32`";
  try {
    const answer = await fetch("https://checkip.amazonaws.com", { signal: AbortSignal.timeout(10_000) });
    const address = (await answer.text()).trim();
    if (/^\d+(\.\d+){3}$/.test(address)) return `${address}/32`;
  } catch {
    // The same hint.
  }
  throw new RefusedError("this computer's own address, from which the builder is called, is not to be had", hint);
}

/** Gives the AMI's id. */
async function build(
  { aws, progress, name }: PackContext,
  tags: Record<string, string>,
  kind: PackerKind,
  folder: string,
): Promise<string> {
  const shown = new Shown(progress);
  const env = { ...quiet, ...(await credentials(aws)), PACKER_CACHE_DIR: join(folder, "cache") };
  if (kind === "current") {
    const init = await tryRun(["packer", "init", join(folder, "plugins.pkr.hcl")], { env });
    if (init.code !== 0)
      throw new RefusedError(
        `Packer's plugins could not be had:\n${init.stderr.trim()}`,
        `by hand: packer init ${join(folder, "plugins.pkr.hcl")}`,
      );
  }
  // Packer 1.6 cannot be told all, so that some things are done beside it, as soon as it names what it has made.
  const beside: Promise<void>[] = [];
  const argv = ["packer", "build", "-machine-readable", "-only=aws", join(folder, "template.json")];
  const { code } = await tryRun(["sh", join(toolFolder, "stacks/aws/ami/packer.sh"), ...argv], {
    cwd: folder,
    env,
    leash: true,
    onLine: (line) => {
      const text = shown.read(line);
      if (kind === "1.6" && text !== undefined && /^(Instance ID|Creating temporary)/.test(text))
        beside.push(complete(aws, text, tags).catch((error: unknown) => progress.say(`  ${String(error)}`)));
    },
  }).catch((error: unknown) => {
    shown.end("failed");
    throw error;
  });
  await Promise.all(beside);
  const id = shown.artifact?.replace(`${aws.region}:`, "");
  shown.end(code === 0 ? "done" : "failed");
  if (code === 0 && id?.startsWith("ami-")) return id;
  throw new RefusedError(`Packer could not make the AMI of ${name}:\n${shown.tail()}`, "it has removed what it had begun");
}

/** Those of the SDK's chain, for a program that knows fewer ways to them (no `aws sso`). */
async function credentials(aws: Aws): Promise<Record<string, string>> {
  const client = await aws.ec2();
  const { accessKeyId, secretAccessKey, sessionToken } = await call("find credentials", () => client.config.credentials());
  return {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    ...(sessionToken !== undefined && { AWS_SESSION_TOKEN: sessionToken }),
  };
}

/**
 * What the template for Packer 1.6 cannot say: that the builder answers IMDSv2 alone (until then there is no role on it whose credentials could be
 * had), and the tags of its key and its security group, by which `ingot gc` finds them when everything here was killed.
 */
async function complete(aws: Aws, text: string, tags: Record<string, string>): Promise<void> {
  const sdk = await import("@aws-sdk/client-ec2");
  const client = await aws.ec2();
  const tag = async (id: string | undefined) => {
    if (id !== undefined) await client.send(new sdk.CreateTagsCommand({ Resources: [id], Tags: tagList(tags) }));
  };
  const [, InstanceId] = /^Instance ID: (i-[0-9a-f]+)/.exec(text) ?? [];
  const [, key] = /^Creating temporary keypair: (\S+)/.exec(text) ?? [];
  const [, group] = /^Creating temporary security group for this instance: (\S+)/.exec(text) ?? [];
  if (InstanceId !== undefined)
    await call("have the builder answer IMDSv2 alone", () =>
      client.send(new sdk.ModifyInstanceMetadataOptionsCommand({ InstanceId, HttpTokens: "required", HttpPutResponseHopLimit: 1 })),
    );
  if (key !== undefined)
    await named(async () => {
      const { KeyPairs = [] } = await client.send(new sdk.DescribeKeyPairsCommand({ Filters: [{ Name: "key-name", Values: [key] }] }));
      return KeyPairs[0]?.KeyPairId;
    }).then(tag);
  if (group !== undefined)
    await named(async () => {
      const { SecurityGroups = [] } = await client.send(
        new sdk.DescribeSecurityGroupsCommand({ Filters: [{ Name: "group-name", Values: [group] }] }),
      );
      return SecurityGroups[0]?.GroupId;
    }).then(tag);
}

/** Packer says what it makes before it is there. */
async function named(find: () => Promise<string | undefined>): Promise<string | undefined> {
  for (let i = 0; i < 20; i++) {
    const id = await find();
    if (id !== undefined) return id;
    await sleep(0.5);
  }
  return undefined;
}

/** Instances of the AMI answer IMDSv2 alone, whoever launches them. Does nothing where that is so; a run that was killed may have left it undone. */
export async function requireTokens(aws: Aws, ImageId: string): Promise<void> {
  const { ModifyImageAttributeCommand } = await import("@aws-sdk/client-ec2");
  if ((await imageCalled(aws, ImageId))?.ImdsSupport === "v2.0") return;
  const client = await aws.ec2();
  await call(`have ${ImageId} ask for IMDSv2`, () =>
    client.send(new ModifyImageAttributeCommand({ ImageId, ImdsSupport: { Value: "v2.0" } })),
  );
}

async function describe(aws: Aws, id: string): Promise<Ami> {
  const image = await imageCalled(aws, id);
  if (!image) throw new RefusedError(`Packer says that it made ${id}, and it is not there`);
  return amiOf(image, aws.region);
}

/** One line of `-machine-readable`: time, target, type, data…; in data commas and line breaks are written otherwise. */
export function parseLine(line: string): { type: string; data: string[] } | undefined {
  const [time = "", , type, ...data] = line.split(",");
  if (!/^\d+$/.test(time) || type === undefined) return undefined;
  return { type, data: data.map((d) => d.replaceAll("%!(PACKER_COMMA)", ",").replaceAll("\\n", "\n").replaceAll("\\r", "\r")) };
}

/** Turns Packer's lines into tasks of the progress, and keeps what is asked for in the end. */
class Shown {
  artifact: string | undefined;
  readonly #last: string[] = [];
  readonly #errors: string[] = [];
  #task: Task | undefined;
  #count = 0;
  #phase = "";

  constructor(private readonly progress: Progress) {}

  /** Gives what it says of its own. */
  read(line: string): string | undefined {
    const { type, data } = parseLine(line) ?? {};
    if (type === "artifact" && data?.[1] === "id") this.artifact = data[2];
    if (type === "error") this.#errors.push(data?.[0] ?? "");
    if (type !== "ui" || !data) return undefined;
    const [kind, ...rest] = data;
    const text = rest
      .join(",")
      .replace(/^(==>)?\s*aws:\s*/, "")
      .trim();
    if (kind === "error") this.#errors.push(text);
    else this.#said(text);
    return text;
  }

  #said(text: string): void {
    const phase = /^ingot: phase (.*)$/.exec(text)?.[1] ?? stages.find(([begins]) => begins.test(text))?.[1];
    if (phase !== undefined && phase !== this.#phase) this.#begin(phase);
    const status = /^status: \S+: (\S+)/.exec(text)?.[1];
    if (status !== undefined && status === { unpack: "unpacked", configure: "installed" }[this.#phase])
      this.#task?.note(`${++this.#count} packages`);
    if (text && status === undefined && !/^(processing: |ingot: phase)/.test(text)) this.#last.push(text);
    if (this.#last.length > 40) this.#last.shift();
  }

  #begin(phase: string): void {
    this.#task?.done();
    this.#phase = phase;
    this.#count = 0;
    this.#task = this.progress.start(titles[phase] ?? phase);
  }

  end(how: "done" | "failed"): void {
    this.#task?.[how]();
    this.#task = undefined;
  }

  /** What it said last, and what went wrong. */
  tail(): string {
    return [...this.#last.slice(-12), ...new Set(this.#errors)].filter((l) => l.trim()).join("\n");
  }
}

/** What Packer says when it comes to something else. */
const stages: [RegExp, string][] = [
  [/^Prevalidating/, "ask"],
  [/^Launching a source AWS instance/, "launch"],
  [/^Waiting for SSH to become available/, "ssh"],
  [/^Uploading /, "send"],
  [/^Stopping the source instance/, "stop"],
  [/^Creating AMI /, "ami"],
  [/^Terminating the source AWS instance/, "end"],
];

const titles: Record<string, string> = {
  ask: "ask EC2 for source, key and security group",
  launch: "launch the builder",
  ssh: "wait for its ssh",
  send: "send packages and files",
  received: "look at what was sent",
  essential: "install the essential packages",
  unpack: "unpack the packages",
  configure: "configure the packages",
  finish: "compile Python, make locales and initramfs",
  settings: "put the configuration on top",
  store: "keep it",
  look: "look at what is in it",
  place: "put it into the builder's place",
  stop: "stop the builder",
  ami: "make the AMI",
  end: "end the builder",
};
