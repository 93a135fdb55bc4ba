// `npm run bench -- systems [<stack> …]`: each stack from `ingot up` to verified, with its critical path, memory and user-data; and INLOOP's host made
// of the same booted image by Ansible and by pyinfra (inloop.yaml, inloop.py beside this), once and once more with nothing to change.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { sha256 } from "../../lib/digest.ts";
import { toolFolder } from "../../lib/paths.ts";
import { type TestProject, testProject } from "../e2e/project.ts";
import { say, seconds, shown, verdict } from "./figures.ts";

const here = join(toolFolder, "tests/bench");

interface Up {
  ok: boolean;
  seconds: { boot: number; checks: number };
  critical_path: Record<string, { step: string; seconds: number }[]>;
  checks: { ok: boolean }[];
  machines: { host: string; forwards: Record<string, string> }[];
}
interface Figures {
  stack: string;
  up: number;
  path: string;
  checks: string;
  /** MiB of each host. */
  memory: string;
  /** Bytes of each host. */
  userData: string;
  /** Of those stacks for which it is said above what it is made of. */
  floor: Record<string, number>;
}

/** The stacks of this repository, and the recipes that their hosts boot. */
const stacks = readdirSync(join(toolFolder, "stacks"))
  .filter((f) => /^[a-z0-9-]+\.yaml$/.test(f))
  .map((f) => f.replace(/\.yaml$/, ""));
const textOf = (stack: string): string => readFileSync(join(toolFolder, "stacks", `${stack}.yaml`), "utf8");
const imagesOf = (stack: string): string[] => [...new Set([...textOf(stack).matchAll(/^ *image: (\S+)/gm)].map((m) => m[1] ?? ""))];

/** Runs a program to its end. @throws Error with what it said when it fails */
async function ran(argv: string[], options: { cwd?: string; env?: Record<string, string> } = {}): Promise<void> {
  const [program = "", ...args] = argv;
  const child = spawn(program, args, { ...options, env: { ...process.env, ...options.env }, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (c) => resolve(c ?? 1));
  });
  if (code !== 0) throw new Error(`${argv.join(" ")} ended with ${code}:\n${said}`);
}

async function inProject<T>(stack: string, work: (project: TestProject) => Promise<T>): Promise<T> {
  const project = await testProject([...new Set(["debian-12", ...imagesOf(stack)])]);
  try {
    return await work(project);
  } finally {
    await project.remove();
  }
}

async function launched(project: TestProject, stack: string): Promise<Up & { all: number }> {
  // What the run before has left to be written is not this one's.
  await ran(["sync"]);
  const began = performance.now();
  const up = (await project.json(["up", stack])) as Up;
  // Patchwork's mail servers are others' machines: alone, its checks of them fail.
  if (!up.checks.length) throw new Error(`${stack} is not up:\n${JSON.stringify(up, null, 2)}`);
  return { ...up, all: seconds(began) };
}

/** What all processes of a machine hold, what they share counted once. Source: proc(5), smaps_rollup. */
async function memoryOf(project: TestProject, stack: string, host: string): Promise<number> {
  const pss = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ { sum += $2 } END { print sum }'";
  return Number((await project.on(`${stack}/${host}`, pss)).stdout) / 1024;
}

async function figuresOf(project: TestProject, stack: string): Promise<Figures> {
  const up = await launched(project, stack);
  const rendered = (await project.json(["render", stack])) as { host: string; bytes: number }[];
  const memory = [];
  for (const { host } of rendered) memory.push(Math.round(await memoryOf(project, stack, host)));
  const paths = Object.values(up.critical_path).map((path) =>
    path
      .filter((p) => p.seconds >= 0.1)
      .map((p) => `${p.step} ${shown(p.seconds)}`)
      .join(" → "),
  );
  return {
    stack,
    up: up.all,
    path: paths.join("; "),
    checks: `${up.checks.filter((c) => c.ok).length} of ${up.checks.length}`,
    memory: memory.join(" + "),
    userData: rendered.map((r) => r.bytes).join(" + "),
    floor: await floorOf(project, stack, floors[stack] ?? []),
  };
}

// --- What a first boot cannot be shorter than: each part alone, on the machines that are up, one after the other ---

interface Part {
  name: string;
  host: string;
  /** Of floor.sh. */
  argv: string[];
}
const gunicorn = { name: "Gunicorn", argv: ["start", "gunicorn.socket gunicorn.service", "https://inloop.localhost/"] };
const uwsgi = { name: "uWSGI", argv: ["start", "uwsgi.service", "https://patchwork.localhost/"] };
/** @param program what serves it */
const partsOf = (database: string, application: string, name: string, program: { name: string; argv: string[] }): Part[] => [
  { name: "PostgreSQL", host: database, argv: ["cluster"] },
  { name: "", host: database, argv: ["empty", name] },
  { name: "migration", host: application, argv: ["migration", name] },
  { ...program, host: application },
];
const floors: Record<string, Part[]> = {
  inloop: partsOf("web", "web", "inloop", gunicorn),
  "inloop-split": partsOf("web", "web", "inloop", gunicorn),
  "kano-konnect": [
    { name: "RabbitMQ", host: "webserver", argv: ["start", "rabbitmq-server.service"] },
    ...partsOf("webserver", "webserver", "kano_konnect", {
      name: "supervisor with uWSGI",
      argv: ["start", "supervisor.service", "http://kano-konnect.localhost/"],
    }),
  ],
  patchwork: partsOf("database", "application", "patchwork", uwsgi),
  "patchwork-single": partsOf("patchwork", "patchwork", "patchwork", uwsgi),
};

/** Seconds of each part by its name. */
async function floorOf(project: TestProject, stack: string, parts: Part[]): Promise<Record<string, number>> {
  const script = readFileSync(join(here, "floor.sh"), "utf8");
  const floor: Record<string, number> = {};
  for (const { name, host, argv } of parts) {
    const { code, stdout, stderr } = await project.ingot(["exec", `${stack}/${host}`, "--", "sh", "-c", script, "floor.sh", ...argv]);
    if (code !== 0) throw new Error(`${stack}: ${name || argv[0]}:\n${stderr}`);
    if (name) floor[name] = Number(stdout) / 1000;
  }
  return floor;
}

const sum = (floor: Record<string, number>): string => {
  const all = Object.entries(floor);
  return `${all.map(([name, s]) => `${name} ${shown(s)}`).join(" + ")} = ${shown(all.reduce((total, [, s]) => total + s, 0))}`;
};

// --- The same state by others ---

/** Ansible and pyinfra in a virtualenv of their own, made once for their versions. */
async function tools(): Promise<string> {
  const requirements = join(here, "requirements.txt");
  const folder = join(toolFolder, ".ingot/tools", `bench-${sha256(readFileSync(requirements)).slice(0, 12)}`);
  const done = join(folder, "complete");
  if (!existsSync(done)) {
    say("installing Ansible and pyinfra from PyPI (half a minute, 600 MB)");
    await ran(["python3", "-m", "venv", "--clear", folder]);
    await ran([join(folder, "bin/pip"), "install", "--quiet", "--requirement", requirements]);
    writeFileSync(done, "");
  }
  return join(folder, "bin");
}

const bare = `stack: bare
hosts:
  web:
    image: debian-12
    volumes:
      inloop: { mount: /var/lib/inloop, size: 10GiB, options: [nodev, nosuid, noexec] }
      postgresql: { mount: /var/lib/postgresql, size: 10GiB, options: [nodev, nosuid, noexec] }
    users:
      admin: { sudo: passwordless, ssh_keys: [keys/bench.pub] }
`;

interface Compared {
  tool: string;
  boot: number;
  first: number;
  second: number;
}

/** @param command what brings the machine to INLOOP's state, given where the variables and the machine's ssh are */
async function compared(tool: string, archive: string, command: (folder: string) => string[]): Promise<Compared> {
  const project = await testProject();
  try {
    const at = (name: string): string => join(project.folder, name);
    for (const name of ["key", "huey"]) await ran(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at(name)]);
    writeFileSync(at("stacks/keys/bench.pub"), readFileSync(at("key.pub")));
    writeFileSync(at("stacks/bare.yaml"), bare);
    say(`${tool}: booting`);
    await ran(["sync"]);
    const began = performance.now();
    const { ended } = project.begin(["up", "bare"]);
    const port = await sshOf(project, at("key"));
    const boot = seconds(began);
    await ended;
    const secret = (): string => randomBytes(24).toString("hex");
    writeFileSync(
      at("variables.json"),
      JSON.stringify({
        release_id: basename(archive).split(".")[0], // its virtualenv knows its path
        archive,
        operator_key: readFileSync(at("key.pub"), "utf8").trim(),
        huey_key: readFileSync(at("huey"), "utf8"),
        database_password: secret(),
        superuser_password: secret(),
        github_secret: secret(),
        django_secret: secret(),
        ansible_host: "127.0.0.1",
        ansible_port: port,
        ansible_user: "admin",
        ansible_ssh_private_key_file: at("key"),
      }),
    );
    const runs: number[] = [];
    for (const which of ["first", "second"]) {
      say(`${tool}: ${which} run`);
      const run = performance.now();
      await ran(command(project.folder), { cwd: here, env: { ANSIBLE_CONFIG: join(here, "ansible.cfg"), BENCH: project.folder } });
      runs.push(seconds(run));
      await serves(project);
    }
    const [first = 0, second = 0] = runs;
    return { tool, boot, first, second };
  } finally {
    await project.remove();
  }
}

/** Waits until the machine lets its operator in; gives the port of this computer that leads to its ssh. */
async function sshOf(project: TestProject, key: string): Promise<number> {
  const options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "ConnectTimeout=2", "LogLevel=ERROR"];
  for (let port = 0, tries = 0; tries < 600; tries++) {
    if (!port) {
      const [machine] = (await project.json(["status"])) as Up["machines"];
      port = Number(machine?.forwards[22]?.split(":")[1] ?? 0);
    } else {
      const ssh = ["ssh", ...options.flatMap((o) => ["-o", o]), "-i", key, "-p", String(port), "admin@127.0.0.1", "sudo", "-n", "true"];
      if (
        await ran(ssh).then(
          () => true,
          () => false,
        )
      )
        return port;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the machine lets nobody in by ssh");
}

/** Asks the site, its database and cache, and has huey do a job. @throws Error when one of them is not there */
async function serves(project: TestProject): Promise<void> {
  const ask = (path: string, more = "") => `curl -skf --resolve inloop.localhost:443:127.0.0.1 ${more} 'https://inloop.localhost${path}'`;
  const { code, stdout, stderr } = await project.on("bare", `set -e; ${ask("/health/")}; ${ask("/jobs/?wait=15", "-X POST")}`);
  if (code !== 0 || !/"database": true, "cache": true[\s\S]*"state": "done"[\s\S]*"user": "huey"/.test(stdout))
    throw new Error(`INLOOP does not serve as it should:\n${stdout}${stderr}`);
}

const linesOf = (path: string): number =>
  readFileSync(path, "utf8")
    .split("\n")
    .filter((l) => l.trim() && !l.trim().startsWith("#")).length;

/** What is compared with the others: INLOOP's state by Ingot. */
interface Own {
  up: number;
  apply: number;
  archive: string;
  floor: Record<string, number>;
}

async function own(): Promise<Own> {
  const work = <T>(what: (project: TestProject) => Promise<T>): Promise<T> =>
    inProject("inloop", async (project) => {
      writeFileSync(join(project.folder, "stacks/state.yaml"), readFileSync(join(here, "inloop.stack.yaml")));
      return await what(project);
    });
  say("INLOOP's state: once, so that its release is built");
  await work((project) => launched(project, "state"));
  say("INLOOP's state: measured");
  return await work(async (project) => {
    const up = await launched(project, "state");
    if (!up.ok) throw new Error(`INLOOP's state is not what it should be:\n${JSON.stringify(up.checks, null, 2)}`);
    const began = performance.now();
    const apply = (await project.json(["apply", "state"])) as { ok: boolean };
    if (!apply.ok) throw new Error(JSON.stringify(apply));
    return {
      up: up.all,
      apply: seconds(began),
      archive: await archiveOf(project),
      floor: await floorOf(project, "state", floors.inloop ?? []),
    };
  });
}

/**
 * Prints its tables, each as soon as it is there.
 * @param only the stacks that are measured beside the comparison; all of them when there is none
 */
export async function systems(only: string[]): Promise<void> {
  const bin = await tools();
  const inloop = await own();
  const others = [
    await compared("Ansible", inloop.archive, (folder) => [
      join(bin, "ansible-playbook"),
      ...["--inventory", "web,", "--extra-vars", `@${join(folder, "variables.json")}`, "inloop.yaml"],
    ]),
    await compared("pyinfra", inloop.archive, () => [join(bin, "pyinfra"), "-y", "inventory.py", "inloop.py"]),
  ];
  console.log(comparison(inloop, others));
  const boot = Math.min(...others.map((c) => c.boot));
  for (const [i, stack] of stacks.filter((s) => !only.length || only.includes(s)).entries()) {
    say(`${stack}: once, so that images are baked and releases built`);
    await inProject(stack, (project) => launched(project, stack));
    say(`${stack}: measured`);
    const f = await inProject(stack, (project) => figuresOf(project, stack));
    if (i === 0) console.log(head);
    console.log(`| ${f.stack} | ${shown(f.up)} | ${sum({ boot, ...f.floor })} | ${f.checks} | ${f.memory} | ${f.userData} | ${f.path} |`);
  }
}

const head = [
  "",
  "| stack | from `up` to verified, s | floor, s | checks that hold | memory when idle, MiB | user-data, bytes | critical path of first boot, s |",
  "|---|---|---|---|---|---|---|",
].join("\n");

/** The release that INLOOP's machine runs, as an archive. */
async function archiveOf(project: TestProject): Promise<string> {
  const [, id = ""] = /releases\/(\w+)/.exec((await project.on("state", "readlink /srv/inloop/current")).stdout) ?? [];
  return join(toolFolder, ".ingot/cache/releases", `${id}.tar.zst`);
}

function comparison(inloop: Own, others: Compared[]): string {
  const fastest = (of: (c: Compared) => number): number => Math.min(...others.map(of));
  const lines = { ingot: linesOf(join(here, "inloop.stack.yaml")), ansible: linesOf(join(here, "inloop.yaml")) };
  return [
    "| INLOOP by | boot to ssh, s | first run, s | boot and first run, s | nothing to change, s |",
    "|---|---|---|---|---|",
    `| Ingot | | | ${shown(inloop.up)}, verified | ${shown(inloop.apply)} |`,
    ...others.map((c) => `| ${c.tool} | ${shown(c.boot)} | ${shown(c.first)} | ${shown(c.boot + c.first)} | ${shown(c.second)} |`),
    "",
    `Its floor, each part alone: ${sum({ boot: fastest((c) => c.boot), ...inloop.floor })} s.`,
    "",
    "| against the faster of the two | ratio |",
    "|---|---|",
    `| first boot | ${verdict(inloop.up / fastest((c) => c.boot + c.first), 0.6)} |`,
    `| nothing to change | ${verdict(inloop.apply / fastest((c) => c.second), 0.2)} |`,
    `| lines: Ingot's YAML ${lines.ingot}, the playbook ${lines.ansible} without its files and templates | ${verdict(lines.ingot / lines.ansible, 1)} |`,
  ].join("\n");
}
