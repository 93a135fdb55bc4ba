// AWS for the tests: moto's server, a real emulator that others maintain, on this computer's loopback, and the environment that leads
// the SDK, Terraform and the host's fetcher to it and nowhere else. scripts/setup.sh --tests installs it.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { toolFolder } from "../lib/paths.ts";
import { whenStopped } from "./stopped.ts";

export interface Moto {
  endpoint: string;
  /** What a program needs in its environment. */
  env: Record<string, string>;
  /** Forgets everything that was made. */
  reset(): Promise<void>;
  stop(): Promise<void>;
}

/** The server's program, or undefined where nobody has installed it. motoAmis() is the same with more of AMIs. */
export function motoProgram(): string | undefined {
  const tools = join(toolFolder, ".ingot/tools");
  const found = (existsSync(tools) ? readdirSync(tools) : []).filter((f) => f.startsWith("moto-")).sort();
  const program = join(tools, found.at(-1) ?? "", "bin/moto_server");
  return existsSync(program) ? program : undefined;
}

/** moto with what it leaves out of AMIs, consoles and roles (tests/moto-amis.py), as a command line. */
export function motoAmis(): string[] | undefined {
  const program = motoProgram();
  return program === undefined ? undefined : [join(dirname(program), "python3"), join(toolFolder, "tests/moto-amis.py")];
}

export const region = "eu-central-1";

export const environmentFor = (endpoint: string): Record<string, string> => ({
  AWS_ENDPOINT_URL: endpoint,
  AWS_REGION: region,
  AWS_DEFAULT_REGION: region,
  AWS_ACCESS_KEY_ID: "test",
  AWS_SECRET_ACCESS_KEY: "test",
  AWS_EC2_METADATA_DISABLED: "true",
  AWS_CONFIG_FILE: "/dev/null",
  AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
  CHECKPOINT_DISABLE: "1",
});

const plain = (): string[] | undefined => {
  const program = motoProgram();
  return program === undefined ? undefined : [program];
};

/**
 * Starts a server of its own and sets this process's environment to it, so that clients made afterwards find it.
 * @throws Error when it is not installed, or does not answer within two minutes
 */
export async function startMoto(command = plain()): Promise<Moto> {
  const [program, ...rest] = command ?? [];
  if (!program) throw new Error("moto is not installed: bash scripts/setup.sh --tests");
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const env = environmentFor(endpoint);
  // What moto itself would load of AMIs is not wanted, and takes a second. IAM's managed policies, which it can load, make each call ten times slower.
  const child = spawn(program, [...rest, "--host", "127.0.0.1", "--port", String(port)], {
    stdio: "ignore",
    env: {
      ...process.env,
      ...env,
      MOTO_EC2_LOAD_DEFAULT_AMIS: "false",
      S3_UPLOAD_PART_MIN_SIZE: "1024", // S3 itself wants 5 MiB
    },
  });
  const end = () => child.kill("SIGKILL");
  process.on("exit", end);
  const gone = whenStopped(end);
  await answers(endpoint, child);
  Object.assign(process.env, env);
  return {
    endpoint,
    env,
    async reset() {
      await fetch(`${endpoint}/moto-api/reset`, { method: "POST" });
    },
    async stop() {
      process.off("exit", end);
      gone();
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
    },
  };
}

async function answers(endpoint: string, child: ChildProcess): Promise<void> {
  for (let i = 0; i < 1200; i++) {
    if (child.exitCode !== null) throw new Error(`moto ended with exit code ${child.exitCode}`);
    try {
      if ((await fetch(`${endpoint}/moto-api/data.json`)).ok) return;
    } catch {
      // not yet
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  child.kill("SIGKILL");
  throw new Error(`moto does not answer at ${endpoint}`);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (address && typeof address === "object" ? resolve(address.port) : reject(new Error("no port"))));
    });
  });
}
