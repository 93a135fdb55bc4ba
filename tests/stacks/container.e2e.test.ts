// Boots real machines, as root (or with sudo). INGOT_TEST_ROOT names the root tree; any with systemd and cloud-init will do.
// Started with UP_ONLY=<project>, it is the process that the kill tests kill.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { Cancelled, listenForSignals } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { sha256 } from "../../lib/digest.ts";
import { ledgerAt } from "../../lib/ledger.ts";
import { type Project, projectAt } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import { asRoot, run, tryRun } from "../../lib/run.ts";
import { groupPaths, manager } from "../../stacks/local/cgroup.ts";
import { containerTarget } from "../../stacks/local/container.ts";
import { machineName, networkName } from "../../stacks/local/names.ts";
import { undoAbandoned } from "../../stacks/local/stack.ts";
import type { Connection, HostInput, Machine, Target, TargetEvent } from "../../stacks/target.ts";
import { suite } from "../suite.ts";
import { activating, hostInput, stackOf, temporaryProject, testRoot } from "./fixtures.ts";

const MiB = 1024 * 1024;
const disk = { name: "data", mount: "/data", size: 64 * MiB, filesystem: "ext4" } as const;
const https = { port: 443, protocol: "tcp", from: "world", resource: "site/x" } as const;

async function up(target: Target, stack: string, hosts: HostInput[]): Promise<TargetEvent[]> {
  const events: TargetEvent[] = [];
  for await (const event of target.up(stackOf(stack, hosts), hosts)) events.push(event);
  return events;
}

async function only(target: Target, stack: string, host?: string): Promise<{ machine: Machine; connection: Connection }> {
  const machine = (await target.find(stack)).find((m) => host === undefined || m.host === host);
  assert.ok(machine, "there is no such machine");
  return { machine, connection: target.connect(machine) };
}

/** Serves a file with its own name in it, over HTTP. */
async function serve(connection: Connection, port: number, file: string): Promise<void> {
  await connection.exec(["sh", "-c", 'mkdir /srv/www && echo "$0" >"/srv/www/$0"', file]);
  await connection.exec(["systemd-run", "--quiet", "python3", "-m", "http.server", "--directory", "/srv/www", String(port)]);
  const open = `import socket, time\nfor _ in range(1200):\n    try: socket.create_connection(("127.0.0.1", ${port})); break\n    except OSError: time.sleep(0.05)`;
  await connection.exec(["python3", "-c", open]);
}

/** Everything of the project that is left on this computer; volumes are meant to be. */
async function leftovers(project: Project, stack: string): Promise<string[]> {
  const name = networkName(project, stack);
  const lines = async (argv: string[]) => (await run(asRoot(argv))).stdout.split("\n").filter((line) => line);
  const processes = readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      return words.includes(`${project.folder}/.ingot`) || words.includes(`/run/netns/${name}`);
    } catch {
      return false;
    }
  });
  return [
    ...(await lines(["cat", "/proc/mounts"]))
      .map((l) => l.replaceAll("\\040", " "))
      .filter((l) => l.includes(project.folder) || l.includes(name)),
    ...(await lines(["ip", "netns", "list"])).filter((l) => l.includes(name)),
    // Groups of other tests' machines go while we look, which find calls a failure.
    ...(await tryRun(asRoot(["find", "/sys/fs/cgroup", "-name", `${name}*`]))).stdout.split("\n").filter((line) => line),
    ...(await lines(["losetup", "--list", "--noheadings", "--output", "BACK-FILE"])).filter((l) => l.includes(project.folder)),
    ...(await lines(["ls", "/run/systemd/nspawn/propagate"]).catch(() => [])).filter((l) => l.includes(name)),
    ...processes.map((pid) => `process ${pid}`),
    ...(existsSync(project.machines) ? readdirSync(project.machines).map((s) => `machines of ${s}`) : []),
    ...ledgerAt(project.ledger)
      .all()
      .map((entry) => `ledger: ${entry.id}`),
  ];
}

// ---- the process that is killed ----

async function upOnly(folder: string): Promise<void> {
  listenForSignals();
  const target = containerTarget(projectAt(folder), silent);
  process.stdout.write("begun\n");
  try {
    await up(target, "victim", [
      hostInput("victim", "web", activating(["sleep 60"]), { volumes: [disk], ports: [https] }),
      hostInput("victim", "db", activating(["sleep 60"])),
    ]);
    process.exitCode = 1; // it was to be killed
  } catch (error) {
    process.exitCode = error instanceof Cancelled ? 130 : 1;
    if (!(error instanceof Cancelled)) console.error(error);
  }
}

async function victim(project: Project): Promise<ChildProcess> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
    env: { ...process.env, UP_ONLY: project.folder },
    stdio: ["ignore", "pipe", "inherit"],
  });
  assert.ok(child.stdout);
  await once(child.stdout, "data");
  return child;
}

// ---- one machine, asked many things ----

interface Context {
  project: Project;
  target: Target;
  connection: Connection;
  machine: Machine;
  events: TargetEvent[];
}

const one = suite<Context>("container: a machine");
const secret = "correct horse battery staple";
const artifact = "the bytes of a release\n";

one.before(async (context) => {
  context.project = temporaryProject();
  context.target = containerTarget(context.project, silent);
  const path = join(context.project.folder, "release");
  writeFileSync(path, artifact);
  const input = hostInput("one", "web", activating(), {
    volumes: [disk],
    ports: [https],
    artifacts: [{ resource: "application/x", id: "x", sha256: sha256(artifact), path }],
  });
  context.events = await up(context.target, "one", [{ ...input, secrets: { "db-password": secret } }]);
  Object.assign(context, await only(context.target, "one"));
});

one.after(async ({ target, project }) => {
  await target.down("one");
  const left = await leftovers(project, "one");
  rmSync(project.folder, { recursive: true });
  assert.equal(left, []);
});

one("up ends with the activation, and the machine is running", ({ events, machine }) => {
  assert.equal(
    events.map((e) => e.event),
    ["machine", "step", "activated"],
  );
  assert.is(machine.state, "running");
  assert.is(machine.address, "10.83.0.10");
});

one("cloud-init has read the user-data and left the network alone", async ({ connection }) => {
  assert.is((await connection.exec(["cat", "/etc/hello"])).stdout, "hello from user-data\n");
  const log = (await connection.exec(["cat", "/var/log/cloud-init.log"])).stdout;
  assert.match(log, /network config is disabled by ds/);
  assert.not.match(log, /dhclient|Applying network configuration/);
  assert.is((await connection.exec(["ip", "route"])).stdout.trim(), "10.83.0.0/24 dev host0 proto kernel scope link src 10.83.0.10");
});

one("the host name is the plan's", async ({ connection }) => {
  assert.is((await connection.exec(["hostname"])).stdout, "web\n");
});

one("exec gives back the exit code, and the standard streams apart", async ({ connection }) => {
  for (const code of [0, 1, 42, 255]) assert.is((await connection.exec(["sh", "-c", `exit ${code}`])).code, code);
  const both = await connection.exec(["sh", "-c", "echo out; echo err >&2"]);
  assert.equal([both.stdout, both.stderr], ["out\n", "err\n"]);
});

one("exec says 127 when there is no such program", async ({ connection }) => {
  assert.is((await connection.exec(["no-such-program"])).code, 127);
});

one("exec hands over arguments as they are", async ({ connection }) => {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is to stay as it is
  const words = ["a b", "$HOME", "${HOME}", "it's", '"q"', "", "*", "new\nline", "\\", "%n", "-n", "a=b", "ü", "$(id)", "`id`"];
  const { stdout } = await connection.exec(["printf", "%s\\0", ...words]);
  assert.equal(stdout.split("\0").slice(0, -1), words);
});

one("exec hands over standard input to its end", async ({ connection }) => {
  const input = "line\n".repeat(100_000);
  assert.is((await connection.exec(["sha256sum"], { input })).stdout.split(" ")[0], sha256(input));
});

one("exec without input has an empty standard input", async ({ connection }) => {
  assert.is((await connection.exec(["cat"])).stdout, "");
});

one("exec runs under the machine's limits, beside its PID 1", async ({ connection, project }) => {
  const own = (await connection.exec(["cat", "/proc/self/cgroup"])).stdout;
  assert.is(own, (await connection.exec(["cat", "/proc/1/cgroup"])).stdout);
  assert.not.match(own, /\.\./);
  assert.ok(machineName(project, "one", "web"));
});

one("a program that takes too long is ended, on the machine too", async ({ connection }) => {
  assert.is((await connection.exec(["sleep", "4321"], { timeoutSeconds: 0.5 })).code, 124);
  assert.is((await connection.exec(["grep", "--files-with-matches", "432[1]", "/proc", "-r", "--include=cmdline", "-s"])).stdout, "");
});

one("secrets are root's alone, facts say where they are", async ({ connection }) => {
  const facts = JSON.parse((await connection.exec(["cat", "/run/ingot/facts/facts.json"])).stdout);
  assert.equal([facts.target, facts.address, facts.volumes], ["container", "10.83.0.10", { data: "ingot-data" }]);
  assert.is((await connection.exec(["cat", `${facts.secrets}/db-password`])).stdout, secret);
  assert.is((await connection.exec(["stat", "-c", "%a %U", `${facts.secrets}/db-password`])).stdout, "600 root\n");
  assert.is.not((await connection.exec(["setpriv", "--reuid=65534", "--clear-groups", "cat", `${facts.secrets}/db-password`])).code, 0);
});

one("facts, seed and artifacts cannot be written on the machine", async ({ connection }) => {
  for (const folder of ["/run/ingot/facts", "/run/ingot/artifacts", "/var/lib/cloud/seed/nocloud"])
    assert.is.not((await connection.exec(["touch", `${folder}/x`])).code, 0, folder);
});

one("artifacts are there by their digest", async ({ connection }) => {
  assert.is((await connection.exec(["cat", `/run/ingot/artifacts/${sha256(artifact)}`])).stdout, artifact);
});

one("refresh makes new secrets and artifacts visible, and clears the report", async ({ connection, target, project }) => {
  const path = join(project.folder, "release2");
  writeFileSync(path, "another\n");
  const input = hostInput("one", "web", "", {
    volumes: [disk],
    artifacts: [{ resource: "application/x", id: "x", sha256: sha256("another\n"), path }],
  });
  await target.refresh(stackOf("one", [input]), [{ ...input, secrets: { "db-password": secret, "certificate/new-one": "n" } }]);
  assert.is((await connection.exec(["cat", `/run/ingot/artifacts/${sha256("another\n")}`])).stdout, "another\n");
  assert.is(
    (await connection.exec(["cat", "/run/ingot/facts/secrets/certificate/new-one", "/run/ingot/facts/secrets/db-password"])).stdout,
    `n${secret}`,
  );
  assert.is((await connection.exec(["stat", "-c", "%a %U", "/run/ingot/facts/secrets/certificate/new-one"])).stdout, "600 root\n");
  const report = "/run/ingot/report/steps.jsonl";
  assert.is.not((await connection.exec(["test", "-e", report])).code, 0);
  const following = (async () => {
    const events: TargetEvent[] = [];
    for await (const event of connection.follow()) events.push(event);
    return events;
  })();
  await connection.exec([
    "sh",
    "-c",
    `echo '{"step":"a","outcome":"unchanged","seconds":1}' >${report}; sleep 0.2; printf '{"generation":"g","out' >>${report}; sleep 0.2; echo 'come":"done","seconds":1}' >>${report}`,
  ]);
  assert.equal(
    (await following).map((e) => e.event),
    ["step", "activated"],
  );
  assert.is((await only(target, "one")).machine.generation, "g");
});

one("a file and a folder are copied, whatever their names", async ({ connection, project }) => {
  const from = join(project.folder, "a folder");
  mkdirSync(join(from, "sub"), { recursive: true });
  writeFileSync(join(from, "sub/it's a file"), "bytes\0more\n", { mode: 0o640 });
  await connection.copy(from, "/opt/the copy");
  await connection.copy(join(from, "sub/it's a file"), "/opt/new/file");
  for (const file of ["/opt/the copy/sub/it's a file", "/opt/new/file"]) {
    assert.is((await connection.exec(["cat", file])).stdout, "bytes\0more\n");
    assert.is((await connection.exec(["stat", "-c", "%a %U", file])).stdout, "640 root\n");
  }
});

one("the machine is seen from its stack's network, and by no way from this computer's", async ({ connection, machine }) => {
  await serve(connection, 443, "answer");
  const seen = await connection.beside(["curl", "--silent", "--max-time", "60", `http://${machine.address}:443/answer`]);
  assert.is(seen.stdout, "answer\n");
  // Nothing is sent to the address from here: on a network that routes it, somebody else might answer.
  const routes = (await run(["ip", "-4", "route", "show", "table", "all"])).stdout;
  assert.not.match(routes, /10\.83\.0\./);
  assert.not.match((await run(["ip", "-4", "-oneline", "address"])).stdout, /10\.83\.0\./);
  assert.is((await connection.beside(["ip", "route", "get", "192.0.2.1"])).code, 2);
  assert.is((await connection.exec(["ip", "route", "get", "192.0.2.1"])).code, 2);
});

one("a port for the world is on the loopback", async ({ machine }) => {
  assert.match(machine.forwards[443] ?? "", /^127\.0\.0\.1:8\d{3}$/);
  const answer = await run(["curl", "--silent", "--max-time", "60", `http://${machine.forwards[443]}/answer`]);
  assert.is(answer.stdout, "answer\n");
});

one("a program that runs beside the machines is the caller's own", async ({ connection }) => {
  assert.is((await connection.beside(["id", "-u"])).stdout.trim(), String(process.getuid?.()));
});

one("a second up is refused, and says what to do", async ({ target }) => {
  try {
    await up(target, "one", [hostInput("one", "web", activating())]);
    assert.unreachable();
  } catch (error) {
    assert.instance(error, RefusedError);
    assert.match((error as RefusedError).message, /one is up already \(web\)/);
    assert.match((error as RefusedError).hint ?? "", /ingot apply one/);
  }
});

one("root on the machine opens no disk but the machine's own", async ({ connection }) => {
  assert.is.not((await connection.exec(["sh", "-c", "mknod /tmp/vda b 254 0 && head -c 1 /tmp/vda"])).code, 0);
  assert.is((await connection.exec(["head", "-c", "1", "/dev/disk/by-id/ingot-data"])).code, 0);
});

one("the image is not written to", async ({ connection }) => {
  await connection.exec(["sh", "-c", "echo x >/etc/written-by-the-machine"]);
  assert.not(existsSync(join(testRoot, "etc/written-by-the-machine")));
  assert.not(existsSync(join(testRoot, "etc/hello")));
});

one("after a reboot the machine is back, with its files, its volume and its address", async ({ connection, machine }) => {
  const unit = "[Mount]\nWhat=/dev/disk/by-id/ingot-data\nWhere=/data\nType=ext4\n[Install]\nWantedBy=multi-user.target\n";
  await connection.exec(["mkfs.ext4", "-q", "/dev/disk/by-id/ingot-data"]);
  await connection.exec(["sh", "-c", "cat >/etc/systemd/system/data.mount"], { input: unit });
  assert.is((await connection.exec(["systemctl", "enable", "--now", "--quiet", "data.mount"])).code, 0);
  await connection.exec(["sh", "-c", "echo kept >/data/file"]);
  const before = (await connection.exec(["cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat"])).stdout;
  await connection.reboot();
  assert.is.not((await connection.exec(["cat", "/proc/sys/kernel/random/boot_id", "/proc/1/stat"])).stdout, before);
  assert.is((await connection.exec(["cat", "/data/file"])).stdout, "kept\n");
  assert.is((await connection.exec(["cat", "/etc/hello"])).stdout, "hello from user-data\n");
  assert.match((await connection.exec(["ip", "-4", "-o", "address", "show", "host0"])).stdout, new RegExp(machine.address));
  assert.match(await connection.console(), /./);
});

one("down and up again: the volume's data are there, the machine is another", async ({ target, project, machine, ...context }) => {
  await target.down("one");
  assert.equal(await leftovers(project, "one"), []);
  assert.equal(await target.find("one"), []);
  await up(target, "one", [hostInput("one", "web", activating(), { volumes: [disk], ports: [https] })]);
  const again = await only(target, "one");
  assert.is.not(again.machine.instance, machine.instance);
  const data = await again.connection.exec(["sh", "-c", "mkdir -p /data && mount /dev/disk/by-id/ingot-data /data && cat /data/file"]);
  assert.is(data.stdout, "kept\n");
  Object.assign(context, again);
});

// ---- several machines ----

const many = suite("container: several machines");

many("two machines of a stack see each other; each has limits of its own", async () => {
  const project = temporaryProject();
  const target = containerTarget(project, silent);
  try {
    await up(target, "pair", [hostInput("pair", "web", activating()), hostInput("pair", "db", activating())]);
    const web = await only(target, "pair", "web");
    const db = await only(target, "pair", "db");
    assert.equal([web.machine.address, db.machine.address], ["10.83.0.10", "10.83.0.11"]);
    await serve(db.connection, 5432, "from-db");
    const read = `import urllib.request as u; print(u.urlopen("http://${db.machine.address}:5432/from-db", timeout=60).read().decode(), end="")`;
    assert.is((await web.connection.exec(["python3", "-c", read])).stdout, "from-db\n");

    const memory = readFileSync("/proc/self/cgroup", "utf8").match(/^\d+:memory:(.*)$/m)?.[1];
    if (memory === undefined) return; // no cgroup v1 here: systemd's unit has the limit
    const group = join("/sys/fs/cgroup/memory", memory, machineName(project, "pair", "web"));
    await run(asRoot(["sh", "-c", `echo 268435456 >"$0/memory.limit_in_bytes"`, group]));
    const hog = ["python3", "-c", "b = bytearray(400 * 1024 * 1024); print(len(b))"];
    assert.is.not((await web.connection.exec(hog)).code, 0);
    assert.is((await db.connection.exec(hog)).code, 0);
  } finally {
    await target.down("pair");
    const left = await leftovers(project, "pair");
    rmSync(project.folder, { recursive: true });
    assert.equal(left, []);
  }
});

many("two projects run a stack of the same name, and the second gets the next free port", async () => {
  const projects = [temporaryProject(), temporaryProject()];
  const targets = projects.map((project) => containerTarget(project, silent));
  try {
    for (const target of targets) await up(target, "same", [hostInput("same", "web", activating(), { ports: [https] })]);
    const machines = await Promise.all(targets.map(async (target) => (await only(target, "same")).machine));
    const ports = machines.map((m) => Number(m.forwards[443]?.split(":")[1]));
    assert.ok(ports[0] !== ports[1] && ports.every((p) => p >= 8443), String(ports));
  } finally {
    for (const target of targets) await target.down("same");
    const left = (await Promise.all(projects.map((project) => leftovers(project, "same")))).flat();
    for (const project of projects) rmSync(project.folder, { recursive: true });
    assert.equal(left, []);
  }
});

// ---- what goes wrong ----

const wrong = suite("container: what goes wrong");

for (const [title, text, reason] of [
  ["user-data that activates nothing", "#cloud-config\nwrite_files: []\n", /cloud-init is done, and no generation was activated/],
  ["user-data that is no YAML", "#cloud-config\n{[\n", /cloud-init is done, and no generation was activated/],
  ["a machine that powers off", activating(["systemctl poweroff --force --force", "sleep 60"]), /the machine ended/],
] as const)
  wrong(`${title} ends up with the reason and the console`, async () => {
    const project = temporaryProject();
    const target = containerTarget(project, silent);
    try {
      const last = (await up(target, "bad", [hostInput("bad", "web", text)])).at(-1);
      assert.is(last?.event, "lost");
      if (last?.event !== "lost") return;
      assert.match(last.reason, reason);
      assert.ok(last.console.length > 0, "no console");
      assert.ok(["failed", "stopped"].includes((await only(target, "bad")).machine.state));
    } finally {
      await target.down("bad");
      const left = await leftovers(project, "bad");
      rmSync(project.folder, { recursive: true });
      assert.equal(left, []);
    }
  });

wrong("a failed activation leaves the machine for inspection", async () => {
  const project = temporaryProject();
  const target = containerTarget(project, silent);
  try {
    await up(target, "bad", [hostInput("bad", "web", activating([], "failed"))]);
    const { machine, connection } = await only(target, "bad");
    assert.is(machine.state, "failed");
    assert.is((await connection.exec(["true"])).code, 0);
  } finally {
    await target.down("bad");
    rmSync(project.folder, { recursive: true });
  }
});

wrong("a machine that does not activate within its limit is given up", async () => {
  const project = temporaryProject();
  const target = containerTarget(project, silent, { bootSeconds: 1 });
  try {
    const last = (await up(target, "slow", [hostInput("slow", "web", activating().replace(": >/run", "sleep 60\\n: >/run"))])).at(-1);
    assert.is(last?.event === "lost" && last.reason, "nothing was activated within 1 s");
  } finally {
    await target.down("slow");
    rmSync(project.folder, { recursive: true });
  }
});

wrong("an image that cannot be mounted leaves nothing behind", async () => {
  const project = temporaryProject();
  const input = hostInput("none", "web", activating(), { volumes: [disk] });
  try {
    await up(containerTarget(project, silent), "none", [{ ...input, image: { ...input.image, root: "/etc/passwd" } }]);
    assert.unreachable();
  } catch (error) {
    assert.match(String(error), /mount|lower/);
  }
  const left = await leftovers(project, "none");
  rmSync(project.folder, { recursive: true });
  assert.equal(left, []);
});

wrong("a taken port gives way", async () => {
  const project = temporaryProject();
  const target = containerTarget(project, silent);
  // Somebody has it, we or another; with an event for either.
  const server = createServer().listen(8443, "127.0.0.1");
  await new Promise((resolve) => server.on("listening", resolve).on("error", resolve));
  try {
    await up(target, "port", [hostInput("port", "web", activating(), { ports: [https] })]);
    assert.is.not((await only(target, "port")).machine.forwards[443], "127.0.0.1:8443");
  } finally {
    server.close();
    await target.down("port");
    rmSync(project.folder, { recursive: true });
  }
});

// ---- interrupt ----

const killed = suite("container: a killed up");

for (const signal of ["SIGINT", "SIGTERM", "SIGKILL"] as const)
  for (const after of [0, 20, 40, 60, 90, 250, 1000])
    killed(
      `${signal} ${after} ms after its start leaves nothing${signal === "SIGKILL" ? " that the next command does not undo" : ""}`,
      async () => {
        const project = temporaryProject();
        const child = await victim(project);
        const ended = once(child, "exit");
        await delay(after);
        child.kill(signal);
        const [code] = await ended;
        if (signal === "SIGKILL") await undoAbandoned(project, silent);
        else assert.is(code, 130);
        const left = await leftovers(project, "victim");
        if (left.length) await undoAbandoned(project, silent);
        else rmSync(project.folder, { recursive: true });
        assert.equal(left, []);
      },
    );

killed("while one up is at it, a second is refused and names the first", async () => {
  const project = temporaryProject();
  const child = await victim(project);
  const ended = once(child, "exit");
  try {
    // Whoever has begun to make machines has the lock.
    while (!ledgerAt(project.ledger).all().length && child.exitCode === null) await delay(20);
    await up(containerTarget(project, silent), "victim", [hostInput("victim", "web", activating())]);
    assert.unreachable();
  } catch (error) {
    assert.instance(error, RefusedError);
    assert.match((error as RefusedError).message, new RegExp(`up victim \\(process ${child.pid}\\) is at it already`));
  } finally {
    child.kill("SIGTERM");
    await ended;
    rmSync(project.folder, { recursive: true });
  }
});

killed("an up after one that was killed succeeds", async () => {
  const project = temporaryProject();
  const child = await victim(project);
  const ended = once(child, "exit");
  await delay(400);
  child.kill("SIGKILL");
  await ended;
  const target = containerTarget(project, silent);
  try {
    assert.is((await up(target, "victim", [hostInput("victim", "web", activating())])).at(-1)?.event, "activated");
  } finally {
    await target.down("victim");
    const left = await leftovers(project, "victim");
    rmSync(project.folder, { recursive: true });
    assert.equal(left, []);
  }
});

const ofDevices = "/sys/fs/cgroup/devices";
(manager() === "none" && existsSync(ofDevices) ? killed : killed.skip)(
  "what containers of a machine that was killed have in its group for a moment keeps no next one from its launch",
  async () => {
    const project = temporaryProject();
    const target = containerTarget(project, silent);
    const own = /^\d+:devices:.*$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[0] ?? "";
    const left = join(ofDevices, ...groupPaths(machineName(project, "victim", "web"), own), "system.slice/docker");
    await run(asRoot(["sh", "-c", 'mkdir -p "$0"; sleep 1.5 >/dev/null 2>&1 & echo $! >"$0/cgroup.procs"', left]));
    try {
      assert.is((await up(target, "victim", [hostInput("victim", "web", activating())])).at(-1)?.event, "activated");
    } finally {
      await target.down("victim");
      rmSync(project.folder, { recursive: true });
    }
  },
);

if (process.env.UP_ONLY) await upOnly(process.env.UP_ONLY);
else for (const tests of [one, many, wrong, killed]) tests.run();
