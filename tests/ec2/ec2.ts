// EC2 on this computer for the end-to-end tests: a network namespace with moto in it, machines as bodies of its instances (bodies.ts), and the
// built `ingot` run there. Nothing in it can reach any other address. Needs root.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { toolFolder } from "../../lib/paths.ts";
import { terraformConfiguration } from "../aws.ts";
import { environmentFor, motoProgram } from "../moto.ts";
import type { BodiesSettings } from "./bodies.ts";

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

const gateway = "172.31.255.254";
const port = 5000;

export class Ec2 {
  readonly folder: string;
  readonly env: Record<string, string>;
  readonly #network: string;
  readonly #terraform = terraformConfiguration();
  #moto?: ChildProcess;
  #bodies?: ChildProcess;

  constructor() {
    this.folder = mkdtempSync("/var/tmp/ingot-ec2-");
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

  async start(): Promise<void> {
    const program = motoProgram();
    if (!program) throw new Error("moto is not installed: bash scripts/setup.sh --tests");
    execFileSync("sh", [join(toolFolder, "stacks/local/network.sh"), this.#network, `${gateway}/16`]);
    execFileSync("ip", ["-n", this.#network, "addr", "add", "10.1.255.254/16", "dev", "br0"]);
    this.#moto = this.begin([program, "--host", "0.0.0.0", "--port", String(port)], {
      MOTO_EC2_LOAD_DEFAULT_AMIS: "false",
      MOTO_IAM_LOAD_MANAGED_POLICIES: "true",
    }).child;
    for (let i = 0; ; i++) {
      const { code } = await this.run(["curl", "-s", "--max-time", "2", `${this.endpoint}/moto-api/data.json`]);
      if (code === 0) break;
      if (i > 100) throw new Error("moto does not answer");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const settings: BodiesSettings = {
      network: this.#network,
      gateway,
      endpoint: this.endpoint,
      folder: join(this.folder, "ec2"),
      store: join(toolFolder, ".ingot/images"),
    };
    mkdirSync(settings.folder);
    writeFileSync(join(this.folder, "bodies.json"), JSON.stringify(settings));
    this.#bodies = this.begin(
      [process.execPath, join(toolFolder, "dist/tests/ec2/bodies.js"), join(this.folder, "bodies.json")],
      {},
      "inherit",
    ).child;
  }

  /** A program in the namespace. */
  begin(
    argv: string[],
    env: Record<string, string> = {},
    output: "pipe" | "inherit" = "pipe",
  ): { child: ChildProcess; ended: Promise<Outcome> } {
    const child = spawn("nsenter", [`--net=/run/netns/${this.#network}`, "--", ...argv], {
      cwd: this.folder,
      env: { ...process.env, ...this.env, ...env },
      stdio: ["ignore", output, output],
    });
    // Nothing here takes so long, and nothing waits for ever.
    const timer = output === "pipe" && !argv[0]?.endsWith("moto_server") ? setTimeout(() => child.kill("SIGTERM"), 240_000) : undefined;
    child.on("close", () => clearTimeout(timer));
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout?.on("data", (chunk: Buffer) => out.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => err.push(chunk));
    const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString("utf8");
    const ended = new Promise<Outcome>((resolve) =>
      child.on("close", (code, signal) => resolve({ code: code ?? (signal ? 128 : 1), stdout: text(out), stderr: text(err) })),
    );
    return { child, ended };
  }

  run(argv: string[]): Promise<Outcome> {
    return this.begin(argv).ended;
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
      script.replaceAll('"@aws-sdk/client-ec2"', `"${join(toolFolder, "node_modules/@aws-sdk/client-ec2/dist-cjs/index.js")}"`),
    );
    const { code, stdout, stderr } = await this.run([process.execPath, file]);
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  }

  consoles(): string {
    return execFileSync("sh", ["-c", `tail -n 40 "$1"/*/console.log 2>/dev/null || true`, "sh", join(this.folder, "ec2")]).toString();
  }

  async end(): Promise<void> {
    for (const child of [this.#bodies, this.#moto]) {
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

/** The digest of the image that a recipe gives, once baked. */
export function bakedDigest(): string {
  const out = execFileSync(process.execPath, [join(toolFolder, "dist/ingot.js"), "plan", "inloop", "--json"], {
    cwd: toolFolder,
  }).toString();
  return (JSON.parse(out) as { hosts: { image: { digest: string } }[] }).hosts[0]?.image.digest ?? "";
}

export const readText = (path: string): string => readFileSync(path, "utf8");
