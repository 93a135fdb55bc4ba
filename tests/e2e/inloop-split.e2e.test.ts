// INLOOP on two hosts: what somebody uploads on one runs in a container on the other; who is neither is let in nowhere; what is rebooted or
// killed comes back. The media folder is one folder of this computer (docs/container.md, Exports): what of NFS can be shown without a kernel
// that has it is shown by its own programs.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { projectAt } from "../../lib/paths.ts";
import { asRoot, run } from "../../lib/run.ts";
import { networkName } from "../../stacks/local/names.ts";
import { suite } from "../suite.ts";
import { Browser } from "./inloop.ts";
import { type TestProject, testProject, until } from "./project.ts";

interface UpResult {
  ok: boolean;
  checks: { id: string; ok: boolean; message: string }[];
  machines: { host: string; forwards: Record<string, string> }[];
}

const test = suite("inloop on two hosts");
let project: TestProject;
let browser: Browser;
let said = "";

const web = async (script: string) => (await project.on("inloop-split/web", script)).stdout.trim();
const worker = async (script: string) => (await project.on("inloop-split/worker", script)).stdout.trim();

/** Which of the ports of `web` take a connection, by a program that says so. */
const open = (...ports: number[]) => `import socket
for port in ${JSON.stringify(ports)}:
    try:
        socket.create_connection(("10.1.5.10", port), 2).close()
        print(port)
    except OSError:
        pass
`;
/** The same from the stack's network, as whoever is neither of its hosts. */
async function strangerSees(...ports: number[]): Promise<string> {
  const place = `--net=/run/netns/${networkName(projectAt(project.folder), "inloop-split")}`;
  return (await run(asRoot(["nsenter", place, "python3", "-c", open(...ports)]))).stdout.trim();
}

/** Uploads a solution, and gives the page that says what became of it. */
async function judged(solution: string): Promise<string> {
  const page = String((await browser.send("/solutions/", {}, solution)).headers.location);
  return until(async () => (await browser.open(page)).body.toString(), page, /id="state">(passed|failed)/);
}

test.before(async () => {
  project = await testProject(["inloop"]);
});
test.after(async () => {
  await project?.remove();
});

test("`up` gives two verified hosts, and says what stands for NFS", async () => {
  const up = await project.ingot(["up", "inloop-split", "--json"]);
  said = up.stderr;
  const result = JSON.parse(up.stdout) as UpResult;
  assert.equal(
    result.checks.filter((c) => !c.ok),
    [],
  );
  assert.ok(result.ok);
  browser = new Browser(result.machines.find((m) => m.host === "web")?.forwards ?? {});
});

test("what is uploaded on one host is run in a container on the other, and the result comes back", async () => {
  const password = readFileSync(join(project.folder, ".ingot/secrets/inloop-split/web/application/inloop/superuser"), "utf8").trim();
  assert.is((await browser.send("/login/", { username: "admin", password })).headers.location, "/solutions/");
  assert.match(await judged('echo "$(($1 + $2))"\n'), /id="state">passed</);
  assert.match(await judged("echo 41\n"), /id="state">failed: wrong/);
  assert.match(await worker("journalctl -q -u docker -u huey --output=cat | grep -c judge"), /^[1-9]/);
  assert.is(await web("command -v docker >/dev/null && systemctl is-active docker || true"), "inactive");
});

test("one folder with the same owners on both hosts: who wrote there is known on the other", async () => {
  const tree = "cd /var/lib/inloop/media && find . -printf '%p %U %G %m %u %g\\n' | sort";
  assert.is(await worker(tree), await web(tree));
  assert.match(await web(tree), /^\.\/solutions\/\S+\.sh \d+ 33 640 gunicorn www-data$/m);
  assert.is(
    await worker("runuser -u huey -- sh -c 'umask 027; echo fetched >/var/lib/inloop/media/git/HEAD'; id -u huey"),
    await web("stat -c %u /var/lib/inloop/media/git/HEAD"),
  );
  assert.is(await web("runuser -u huey -- cat /var/lib/inloop/media/git/HEAD"), "fetched");
  assert.not.equal((await project.on("inloop-split/worker", "runuser -u huey -- touch /var/lib/inloop/media/solutions/x")).code, 0);
  assert.match(said, /web: no NFS in containers: the export media is one folder of this computer, mounted by web, worker/);
});

test("the worker reaches PostgreSQL and Redis, Redis by its password; whoever else is in the network reaches neither, nor NFS", async () => {
  assert.is(await worker(`python3 -c '${open(5432, 6379, 80)}'`), "5432\n6379\n80");
  assert.is(await strangerSees(5432, 6379, 2049, 80), "80");
  assert.match(
    await worker(
      "printf 'PING\\r\\nQUIT\\r\\n' | timeout 60 python3 -c 'import socket, sys; s = socket.create_connection((\"10.1.5.10\", 6379)); s.sendall(sys.stdin.buffer.read()); print(s.recv(100))'",
    ),
    /NOAUTH/,
  );
  assert.is(
    await web("nft list table inet ingot | grep -E 'dport (2049|5432|6379)' | sed 's/^[[:space:]]*//' | sort"),
    [2049, 5432, 6379].map((p) => `ip saddr 10.1.5.11 tcp dport ${p} accept`).join("\n"),
  );
});

test("NFS's own programs take the list of exports, and systemd the mount unit, as they are on a host with NFS", async () => {
  assert.match(
    await web("exportfs -ra && exportfs -s"),
    /^\/var\/lib\/inloop\/media {2}10\.1\.5\.11\([^)]*\brw\b[^)]*\broot_squash\b[^)]*\)$/,
  );
  const answer = async (client: string) => {
    const args = { path: "/var/lib/inloop/media", clients: [client], shared: "/nowhere" };
    return (await project.on("inloop-split/web", "/usr/lib/ingot/check.py", JSON.stringify([{ id: "x", check: "exported", args }]))).stdout;
  };
  assert.match(await answer("10.1.5.11"), /"ok": ?true/);
  assert.match(await answer("10.1.5.12"), /who may mount/);
  assert.is(await web("nfsconf --get nfsd host; nfsconf --get nfsd vers3; nfsconf --get nfsd port"), "10.1.5.10\nn\n2049");
  assert.is(await web("systemctl is-enabled rpcbind.socket rpcbind.service rpc-statd.service"), "masked\nmasked\nmasked");
  const alone = "mkdir /tmp/units && cp /etc/systemd/system/*media.mount /tmp/units && systemd-analyze verify /tmp/units/*.mount 2>&1";
  assert.is(await worker(alone), "");
  assert.match(await worker("systemctl show -P Requires,After huey"), /media\.mount[\s\S]*media\.mount/);
});

test("a second apply changes nothing", async () => {
  const apply = await project.ingot(["apply", "inloop-split"]);
  assert.is(apply.code, 0, apply.stderr);
  assert.match(apply.stdout, /nothing changed/);
});

test("after kill -9 of Gunicorn and huey both are back", async () => {
  for (const [on, unit] of [
    [web, "gunicorn"],
    [worker, "huey"],
  ] as const) {
    const main = `systemctl show -P MainPID ${unit}`;
    const before = await on(main);
    await on(`kill -9 ${before}`);
    await until(on, main, new RegExp(`^(?!${before}$|0$)\\d+$`));
  }
  // Their processes are there before they answer.
  assert.is((await project.ingot(["verify", "inloop-split", "--within", "300"])).code, 0);
  assert.match(await judged('echo "$(($1 + $2))"\n'), /id="state">passed</);
});

test("after a reboot of both hosts everything is back without help", async () => {
  await Promise.all(["inloop-split/web", "inloop-split/worker"].map((machine) => project.reboot(machine)));
  const verified = await project.ingot(["verify", "inloop-split", "--within", "300"]);
  assert.is(verified.code, 0, verified.stderr);
  assert.match(await judged('echo "$(($1 + $2))"\n'), /id="state">passed</);
  assert.is(await web("runuser -u huey -- cat /var/lib/inloop/media/git/HEAD"), "fetched");
});

test.run();
