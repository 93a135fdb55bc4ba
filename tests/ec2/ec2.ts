// EC2 on this computer for the end-to-end tests: a network namespace with moto in it, machines as bodies of its instances (bodies.ts), name servers as
// that of its zones (route53.ts), and the built `ingot` run there. Nothing in it can reach any other address. Needs root.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { toolFolder } from "../../lib/paths.ts";
import type { MadeAmi } from "../../stacks/aws/ami/make.ts";
import { terraformConfiguration } from "../aws.ts";
import { environmentFor, motoAmis, motoProgram } from "../moto.ts";
import { isStopping, whenStopped } from "../stopped.ts";
import type { BodiesSettings } from "./bodies.ts";

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** The namespace's own address, by which instances find moto. */
export const gateway = "172.31.255.254";
const port = 5000;
const frontPort = 5001;

export class Ec2 {
  readonly folder: string;
  readonly env: Record<string, string>;
  readonly #network: string;
  readonly #terraform = terraformConfiguration();
  #moto?: ChildProcess;
  #bodies?: ChildProcess;
  #front?: ChildProcess;
  #tls?: ChildProcess;
  #names?: ChildProcess;
  /** Commands that run in the namespace: what begins them waits for them. */
  readonly #commands = new Map<ChildProcess, Promise<Outcome>>();
  #ended?: Promise<void>;

  /** @param moto `with AMIs`: tests/moto-amis.py, where an instance's console is that of its body */
  constructor(readonly moto: "as it is" | "with AMIs" = "as it is") {
    this.folder = mkdtempSync("/var/tmp/ingot-ec2-");
    whenStopped(async (signal) => {
      for (const child of this.#commands.keys()) child.kill(signal);
      await Promise.all(this.#commands.values());
      await this.end();
    });
    this.#network = `ingot-ec2-${process.pid}`;
    this.env = { ...environmentFor(this.endpoint), ...this.#terraform?.env, INGOT_LOOK_SECONDS: "0.3" };
    for (const part of ["images", "stacks", "tests/apps"]) {
      mkdirSync(join(this.folder, part), { recursive: true });
      cpSync(join(toolFolder, part), join(this.folder, part), { recursive: true, filter: (path) => !/\.(ts|sh)$|__pycache__/.test(path) });
    }
    mkdirSync(join(this.folder, ".ingot"));
    for (const shared of ["images", "cache"]) symlinkSync(join(toolFolder, ".ingot", shared), join(this.folder, ".ingot", shared));
  }

  /** Whether this computer has the real provider, without which nothing is launched. */
  get hasProvider(): boolean {
    return this.#terraform !== undefined;
  }

  get endpoint(): string {
    return `http://${gateway}:${port}`;
  }

  /**
   * @param bodies the program that gives instances bodies, and what it is told beside what every such program is
   * @param env of moto
   */
  async start(
    bodies: { program: string; more: Record<string, string> } = { program: "bodies", more: {} },
    env: Record<string, string> = {},
  ): Promise<void> {
    const program = motoProgram();
    const command = this.moto === "with AMIs" ? motoAmis() : program && [program];
    if (!command) throw new Error("moto is not installed: bash scripts/setup.sh --tests");
    execFileSync("sh", [join(toolFolder, "stacks/local/network.sh"), this.#network, `${gateway}/16`]);
    execFileSync("ip", ["-n", this.#network, "addr", "add", "10.1.255.254/16", "dev", "br0"]);
    this.#moto = this.begin([...command, "--host", "0.0.0.0", "--port", String(port)], {
      INGOT_CONSOLES: join(this.folder, "ec2"),
      MOTO_EC2_LOAD_DEFAULT_AMIS: "false",
      // Stacks attach them to roles; with them each call takes ten times as long.
      MOTO_IAM_LOAD_MANAGED_POLICIES: String(this.hasProvider),
      ...env,
    }).child;
    await this.#answers(this.endpoint);
    const settings: BodiesSettings & Record<string, string> = {
      network: this.#network,
      endpoint: this.endpoint,
      folder: join(this.folder, "ec2"),
      store: join(this.folder, ".ingot/images"),
      ...bodies.more,
    };
    mkdirSync(settings.folder);
    writeFileSync(join(this.folder, "bodies.json"), JSON.stringify(settings));
    this.#bodies = this.begin(
      [process.execPath, join(toolFolder, `dist/tests/ec2/${bodies.program}.js`), join(this.folder, "bodies.json")],
      {},
      "inherit",
    ).child;
  }

  async #answers(endpoint: string): Promise<void> {
    for (let i = 0; ; i++) {
      const { code } = await this.run(["curl", "-s", "--max-time", "2", `${endpoint}/moto-api/data.json`]);
      if (code === 0) return;
      if (i > 1000) throw new Error(`nothing answers at ${endpoint}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** From here on programs in the namespace, not the machines, find the EBS direct APIs before moto (tests/aws-front.ts). */
  async takeBlocks(): Promise<void> {
    const program = join(toolFolder, "dist/tests/ec2/front.js");
    this.#front = this.begin([process.execPath, program, this.endpoint, gateway, String(frontPort)], {}, "inherit").child;
    this.env.AWS_ENDPOINT_URL = `http://${gateway}:${frontPort}`;
    await this.#answers(this.env.AWS_ENDPOINT_URL);
  }

  /** From here on moto answers as S3 does at AWS, by TLS. @param key, certificate files */
  async takeTls(key: string, certificate: string): Promise<void> {
    const program = join(toolFolder, "dist/tests/ec2/tls.js");
    this.#tls = this.begin([process.execPath, program, key, certificate, gateway, "443", gateway, String(port)], {}, "inherit").child;
  }

  /** From here on programs in the namespace ask moto's Route53 for names, by DNS. */
  async takeNames(): Promise<void> {
    const program = join(toolFolder, "dist/tests/ec2/route53.js");
    this.#names = this.begin([process.execPath, program, this.endpoint, gateway], {}, "inherit").child;
    writeFileSync(this.#resolver, `nameserver ${gateway}\noptions timeout:2 attempts:1\n`);
    // It answers once it is there, that of no zone there is anything.
    for (let i = 0; (await this.run(["getent", "ahostsv4", "ns-1.awsdns-1.org"])).code !== 0; i++) {
      if (i > 50) throw new Error("nobody answers for names");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  get #resolver(): string {
    return join(this.folder, "resolv.conf");
  }

  /** Makes the AMI of a recipe by the command, of the disk of its image. What that needs is fetched before, where there is a network. */
  async bake(recipe: string): Promise<MadeAmi> {
    const ingot = join(toolFolder, "dist/ingot.js");
    const disk = spawnSync(process.execPath, [ingot, "image", "disk", recipe, "--format", "raw"], { cwd: this.folder, encoding: "utf8" });
    if (disk.status !== 0) throw new Error(disk.stderr);
    const outcome = await this.ingot(["bake", recipe, "--direct", "--locked", "--json"]);
    if (outcome.code !== 0) throw new Error(this.said(outcome));
    return JSON.parse(outcome.stdout) as MadeAmi;
  }

  /** A program in the namespace. */
  begin(
    argv: string[],
    env: Record<string, string> = {},
    output: "pipe" | "inherit" = "pipe",
  ): { child: ChildProcess; ended: Promise<Outcome> } {
    // Names are asked for where /etc/resolv.conf says.
    const resolved = this.#names && ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', this.#resolver];
    const child = spawn("nsenter", [`--net=/run/netns/${this.#network}`, "--", ...(resolved ?? []), ...argv], {
      cwd: this.folder,
      env: { ...process.env, ...this.env, ...env },
      stdio: ["ignore", output, output],
    });
    const serves = output === "inherit" || argv.includes("--host");
    // Nothing here takes so long, and nothing waits for ever.
    const timer = serves ? undefined : setTimeout(() => child.kill("SIGTERM"), 1_800_000);
    child.on("close", () => clearTimeout(timer));
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout?.on("data", (chunk: Buffer) => out.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => err.push(chunk));
    const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString("utf8");
    const ended = new Promise<Outcome>((resolve) =>
      child.on("close", (code, signal) => resolve({ code: code ?? (signal ? 128 : 1), stdout: text(out), stderr: text(err) })),
    );
    if (!serves) {
      this.#commands.set(child, ended);
      child.on("close", () => this.#commands.delete(child));
    }
    return { child, ended };
  }

  /** A test that is being stopped begins nothing any more. */
  run(argv: string[]): Promise<Outcome> {
    return isStopping() ? new Promise(() => {}) : this.begin(argv).ended;
  }

  /** The built `ingot`, with `--on aws`. */
  ingot(args: string[]): Promise<Outcome> {
    const end = args.indexOf("--");
    const at = end < 0 ? args.length : end;
    return this.run([process.execPath, join(toolFolder, "dist/ingot.js"), ...args.slice(0, at), "--on", "aws", ...args.slice(at)]);
  }

  /** A call of the AWS SDK's in the namespace, where the emulator is: a script of ours, its JSON result. */
  async ask(script: string): Promise<unknown> {
    const file = join(this.folder, "ask.mjs");
    writeFileSync(
      file,
      script.replace(/"(@aws-sdk\/[a-z0-9-]+)"/g, (_, name: string) => `"${join(toolFolder, "node_modules", name, "dist-cjs/index.js")}"`),
    );
    const { code, stdout, stderr } = await this.run([process.execPath, file]);
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  }

  /** Registers an AMI for each image of a stack's hosts, as if their recipes had been baked for EC2. */
  async register(stack: string): Promise<void> {
    const out = execFileSync(process.execPath, [join(toolFolder, "dist/ingot.js"), "plan", stack, "--json"], { cwd: this.folder });
    const { hosts } = JSON.parse(out.toString()) as { hosts: { image: { digest: string } }[] };
    for (const digest of new Set(hosts.map((h) => h.image.digest)))
      await this.ask(`
        import { EC2Client, RegisterImageCommand, CreateTagsCommand } from "@aws-sdk/client-ec2";
        const ec2 = new EC2Client({});
        const { ImageId } = await ec2.send(new RegisterImageCommand({ Name: "${digest}", Architecture: "x86_64", RootDeviceName: "/dev/xvda", VirtualizationType: "hvm" }));
        await ec2.send(new CreateTagsCommand({ Resources: [ImageId], Tags: [{ Key: "ingot:image", Value: "${digest}" }] }));
        console.log(JSON.stringify(ImageId));`);
  }

  /** A store of this test's own, with the images of the shared one in it: what is put there goes with the test. */
  ownStore(): string {
    const store = join(this.folder, ".ingot/images");
    const shared = join(toolFolder, ".ingot/images");
    rmSync(store);
    mkdirSync(store);
    for (const name of readdirSync(shared)) symlinkSync(join(shared, name), join(store, name));
    return store;
  }

  /** A zone of Route53's. */
  async hostedZone(name: string): Promise<void> {
    const { code, stderr } = await this.run([
      ..."curl -sSf --aws-sigv4 aws:amz:us-east-1:route53 --user test:test -H content-type:application/xml".split(" "),
      "--data",
      `<CreateHostedZoneRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Name>${name}</Name><CallerReference>1</CallerReference></CreateHostedZoneRequest>`,
      `${this.endpoint}/2013-04-01/hostedzone`,
    ]);
    if (code !== 0) throw new Error(stderr);
  }

  /** Ids of the machines that run, and of the data volumes that are there. */
  async there(): Promise<{ instances: string[]; volumes: string[] }> {
    return (await this.ask(`
      import { EC2Client, DescribeInstancesCommand, DescribeVolumesCommand } from "@aws-sdk/client-ec2";
      const ec2 = new EC2Client({});
      const { Reservations } = await ec2.send(new DescribeInstancesCommand({ Filters: [{ Name: "instance-state-name", Values: ["running", "pending"] }] }));
      const { Volumes } = await ec2.send(new DescribeVolumesCommand({ Filters: [{ Name: "tag-key", Values: ["ingot:volume"] }] }));
      console.log(JSON.stringify({ instances: Reservations.flatMap((r) => r.Instances).map((i) => i.InstanceId).sort(), volumes: Volumes.map((v) => v.VolumeId).sort() }));`)) as {
      instances: string[];
      volumes: string[];
    };
  }

  /** All that is known of a run, for the message of an assertion. */
  said({ stdout, stderr }: Outcome): string {
    const consoles = execFileSync("sh", ["-c", `tail -n 40 "$1"/*/console.log 2>/dev/null || true`, "sh", join(this.folder, "ec2")]);
    return `${stdout}\n${stderr}\n${consoles.toString()}`;
  }

  end(): Promise<void> {
    return (this.#ended ??= this.#end());
  }

  async #end(): Promise<void> {
    for (const child of [this.#bodies, this.#front, this.#tls, this.#names, this.#moto]) {
      if (!child || child.exitCode !== null) continue;
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await ended;
    }
    execFileSync("sh", ["-c", `ip netns delete "$1" 2>/dev/null || true`, "sh", this.#network]);
    this.#terraform?.remove();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Changes a file, and fails where there is nothing to change. */
export const editor =
  (file: string) =>
  (from: string | RegExp, to: string): void => {
    const text = readFileSync(file, "utf8");
    if (text.replace(from, to) === text) throw new Error(`nothing in ${file} is like ${from}`);
    writeFileSync(file, text.replace(from, to));
  };
