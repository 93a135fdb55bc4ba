// Into an EC2 instance, by ssh, straight or through SSM's agent on it. Its host key is known beforehand, because Ingot made it; the operator's
// key is the stack's, from the secrets' store, and lies on this computer only while a command runs.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { toolFolder } from "../../lib/paths.ts";
import { shell } from "../../lib/quote.ts";
import { run, tryRun } from "../../lib/run.ts";
import { parseLine } from "../local/report.ts";
import { publicSshKey, type SecretStore } from "../secrets.ts";
import type { Connection, ExecOptions, ExecResult, Machine } from "../target.ts";
import { names, type Way } from "./shape.ts";

/** Seconds between two looks at the report of a running activation. */
const lookSeconds = 0.3;
const rebootSeconds = 300;
/** cloud-init's default user of the distribution's package; it may become root without a password. */
const loginOf: Record<string, string> = { debian: "debian", ubuntu: "ubuntu" };

export interface Access {
  store: SecretStore;
  region: string;
  /** The image's distribution, "debian" or "ubuntu", and by which way the host lets ssh in. */
  about(): Promise<{ distro: string; way: Way }>;
  console(): Promise<string>;
}

/** What ssh needs of files, made once for a process and taken away at its end. */
const folders = new Map<string, Promise<string>>();

async function keysOf(machine: Machine, store: SecretStore): Promise<string> {
  const { stack, host } = machine;
  const [operator, hostKey] = await Promise.all([store.get(stack, names.operatorKey), store.get(stack, `${host}/ssh-host-key`)]);
  if (operator === undefined || hostKey === undefined)
    throw new RefusedError(
      `the secrets' store has no ${operator === undefined ? "key of the operator" : "host key"} for ${stack}/${host}`,
      `\`ingot up ${stack} --on aws\` makes it; or look at ${store.placeOf(stack, operator === undefined ? names.operatorKey : `${host}/ssh-host-key`)}`,
    );
  // Short: a control socket's path has at most 108 bytes (unix(7)).
  const folder = mkdtempSync(join(tmpdir(), "ingot-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, "key"), operator, { mode: 0o600 });
  writeFileSync(join(folder, "known_hosts"), `${alias(machine)} ${await publicSshKey(hostKey)}\n`);
  return folder;
}

/** ssh gives ProxyCommand to a shell, and reads `%` itself. */
const tunnelTo = ({ instance }: Machine, region: string): string =>
  [process.execPath, join(toolFolder, "dist/tunnel.js"), region, instance].map((word) => shell(word).replaceAll("%", "%%")).join(" ");

const alias = ({ stack, host }: Machine): string => `${stack}.${host}.ingot`;

export function connectTo(machine: Machine, access: Access): Connection {
  const id = `${machine.stack}/${machine.host}`;
  const ssh = async (options: string[] = []): Promise<string[]> => {
    if (!machine.address || machine.state === "stopped")
      throw new RefusedError(`${id} is not running`, `\`ingot start ${machine.stack} --on aws\` powers it on`);
    let folder = folders.get(id);
    if (!folder) folders.set(id, (folder = keysOf(machine, access.store)));
    const at = await folder;
    const { distro, way } = await access.about();
    const settings = {
      ...(way === "ssm" && { ProxyCommand: tunnelTo(machine, access.region) }),
      IdentityFile: join(at, "key"),
      IdentitiesOnly: "yes",
      UserKnownHostsFile: join(at, "known_hosts"),
      GlobalKnownHostsFile: "/dev/null",
      HostKeyAlias: alias(machine),
      HostKeyAlgorithms: "ssh-ed25519",
      StrictHostKeyChecking: "yes",
      BatchMode: "yes",
      ConnectTimeout: way === "ssm" ? "30" : "10",
      ServerAliveInterval: "15",
      LogLevel: "ERROR",
      ControlMaster: "auto",
      ControlPath: join(at, "c"),
      // The connection stays open beside this process for a few seconds at most.
      ControlPersist: "10",
    };
    const login = `${loginOf[distro] ?? "admin"}@${way === "ssm" ? machine.instance : machine.address}`;
    return ["ssh", ...Object.entries(settings).flatMap(([k, v]) => ["-o", `${k}=${v}`]), ...options, login, "--"];
  };
  /** One command line for the login's shell: every word quoted. */
  const asRoot = (argv: string[], timeoutSeconds?: number): string =>
    ["sudo", "-n", "--", ...(timeoutSeconds === undefined ? [] : ["timeout", "--kill-after=5", String(timeoutSeconds)]), ...argv]
      .map(shell)
      .join(" ");

  const exec = async (argv: string[], options: ExecOptions = {}): Promise<ExecResult> => {
    const pty = options.interactive && process.stdin.isTTY && process.stdout.isTTY;
    const command = [...(await ssh(pty ? ["-t"] : [])), asRoot(argv, options.timeoutSeconds)];
    const { code, stdout, stderr } = await tryRun(command, { input: options.input || undefined, interactive: options.interactive });
    if (code === 255 && /^(ssh:|tunnel:|Host key verification|kex_exchange|Connection |.*Permission denied \(publickey)/m.test(stderr))
      throw new RefusedError(`no ssh to ${id} (${machine.address}): ${stderr.trim()}`, sshHint(stderr, machine));
    return { code, stdout, stderr };
  };

  return {
    exec,
    async copy(from, to) {
      await run(["sh", join(toolFolder, "stacks/aws/copy.sh"), from, to, ...(await ssh())]);
    },
    async fetch(from, folder) {
      await run(["sh", join(toolFolder, "stacks/aws/fetch.sh"), from, folder, ...(await ssh())]);
    },
    console: () => access.console(),
    async reboot() {
      const before = await bootOf(exec);
      await exec(["systemctl", "reboot"], { timeoutSeconds: 30 }); // its exit code tells nothing: the machine goes away below it
      await untilUp({ exec }, machine, rebootSeconds, before);
    },
    async beside(argv, options = {}) {
      const { code, stdout, stderr } = await tryRun(argv, { input: options.input, timeoutSeconds: options.timeoutSeconds });
      return { code, stdout, stderr };
    },
    async *follow() {
      for (let seen = 0; ; await sleep(lookSeconds)) {
        const { stdout } = await exec(["cat", "/run/ingot/report/steps.jsonl"], { timeoutSeconds: 20 });
        const lines = stdout.split("\n").slice(0, -1); // the last one may be half written
        for (const line of lines.slice(seen)) {
          const event = parseLine(machine.host, line);
          if (!event) continue;
          yield event;
          if (event.event === "activated") return;
        }
        seen = lines.length;
      }
    },
  };
}

type Exec = Pick<Connection, "exec">;

const bootOf = async (exec: Exec["exec"]): Promise<string> =>
  (await exec(["cat", "/proc/sys/kernel/random/boot_id"], { timeoutSeconds: 20 })).stdout.trim();

/**
 * Waits until a machine lets somebody in and systemd has started everything.
 * @param before the boot that it is no longer to be in
 * @throws RefusedError after `seconds`
 */
export async function untilUp({ exec }: Exec, { stack, host }: Machine, seconds: number, before = ""): Promise<void> {
  for (const end = performance.now() + seconds * 1000; performance.now() < end; await sleep(2)) {
    const now = await bootOf(exec).catch((error: unknown) => {
      if (error instanceof RefusedError) return ""; // it is away
      throw error;
    });
    if (now === before || now === "") continue;
    const state = await exec(["systemctl", "is-system-running", "--wait"], { timeoutSeconds: seconds });
    if (["running", "degraded"].includes(state.stdout.trim())) return;
  }
  throw new RefusedError(
    `${stack}/${host} did not come back within ${seconds} s`,
    `its console: ingot logs ${stack}/${host} --console --on aws`,
  );
}

function sshHint(stderr: string, { stack }: Machine): string {
  const [, said] = /^tunnel: (.*)$/m.exec(stderr) ?? [];
  if (said) return said;
  if (/Host key verification/.test(stderr))
    return "what answers there is not the host that Ingot made: is the address somebody else's now? `ingot status --on aws` says which it has";
  if (/Permission denied/.test(stderr)) return "the instance has another key: it was launched before the secrets' store had this one";
  return `is port 22 open to you (\`ssh_from:\` in ${stack}'s file), and is the machine running? ingot status ${stack} --on aws`;
}
