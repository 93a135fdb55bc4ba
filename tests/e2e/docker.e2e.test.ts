// Docker on a booted machine: who may use it, what its containers get, what they open, and what is left of them after a change and a reboot.
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { dockerArchive } from "./docker-archive.ts";
import { type TestProject, testProject, until } from "./project.ts";

const test = suite("docker");
let project: TestProject;
let root = "";
const programs = ["sh", "cat", "echo", "head", "tail", "seq", "sleep", "yes"];
const file = (name = "stacks/docker.yaml") => join(project.folder, name);
const edit = (from: string | RegExp, to: string) => project.edit("stacks/docker.yaml", from, to);
const on = async (host: string, script: string) => {
  const { stdout, stderr } = await project.on(`docker/${host}`, script);
  return stdout + stderr;
};
const queue = (script: string) => on("queue", script);
const apply = async () => (await project.json(["apply", "docker"])) as { ok: boolean; changed: string[] };
const verify = () => project.ingot(["verify", "docker"]);
const pause = () => new Promise((resolve) => setTimeout(resolve, 200));
const runner = "example/runner:1.2";
const idOf = (host: string, image: string) => on(host, `docker image inspect --format '{{.Id}}' ${image}`);

/** Processor time of all containers, in percent of one processor, over three seconds. Source: cgroup-v1/cpuacct.rst, cgroup-v2.rst. */
const percent = async (): Promise<number> => {
  const usage =
    "cat /sys/fs/cgroup/cpuacct/docker.slice/cpuacct.usage 2>/dev/null || sed -n 's/^usage_usec \\(.*\\)/\\1000/p' /sys/fs/cgroup/docker.slice/cpu.stat";
  const seen = await queue(`now() { ${usage}; date +%s%N; }; now; sleep 3; now`);
  const [before = 0, began = 0, after = 0, ended = 0] = seen.split("\n").map(Number);
  return (100 * (after - before)) / (ended - began);
};

test.before(async () => {
  project = await testProject();
  cpSync(join(toolFolder, "tests/e2e/docker.yaml"), file());
  const image = JSON.parse((await project.ingot(["image", "show", "debian-12", "--json"])).stdout) as { digest: string };
  root = join(project.folder, ".ingot/images", image.digest, "root");
  const sha256 = dockerArchive(file("stacks/runner.tar"), { root, programs });
  edit("{ type: text, description", `{ default: ${JSON.stringify(sha256)}, description`);
});
test.after(() => project?.remove());

test("an archive that is another than was meant, and a setting that dockerd does not know, are errors before anything is launched", async () => {
  const text = readFileSync(file(), "utf8");
  edit("sha256: { var: runner } }\n      settings", `sha256: ${"c0ffee00".repeat(8)} }\n      settings`);
  const refused = await project.ingot(["up", "docker"]);
  assert.is(refused.code, 2);
  assert.match(refused.stderr, /docker\.yaml:18:\d+ error ING1436: runner\.tar has another sha256: [0-9a-f]{64}/);
  writeFileSync(file(), text);
  edit("max-concurrent-downloads: 2", "max-concurrent-down: 2");
  const other = await project.ingot(["up", "docker"]);
  assert.is(other.code, 2);
  assert.match(
    other.stderr,
    /ING1437: Docker refuses the settings of its daemon: .* don't match any configuration option: max-concurrent-down\n/,
  );
  writeFileSync(file(), text);
  assert.equal(await project.json(["status"]), []);
});

test("both boot, on a volume and without one, and every check holds", async () => {
  const up = await project.ingot(["up", "docker"]);
  assert.is(up.code, 0, up.stderr + up.stdout);
  for (const host of ["queue", "plain"])
    assert.is(await on(host, "docker info --format '{{.Driver}} {{.CgroupDriver}}'"), "overlay2 systemd\n");
  assert.is(await idOf("plain", "runner"), await idOf("queue", runner));
});

test("who is in the group runs containers, a service too; nobody else does", async () => {
  assert.is(await queue(`runuser -u ops -- docker run --rm ${runner} echo hello`), "hello\n");
  assert.match(await queue(`runuser -u eve -- docker run --rm ${runner} echo hello`), /permission denied/);
  assert.match(await queue("journalctl --no-pager -o cat -u worker"), /^in a container$/m);
});

test("what a container asks for beyond the limits it does not get", async () => {
  await queue(`docker run --detach --name burn ${runner} sh -c 'for i in 1 2 3; do while :; do :; done & done; wait'`);
  const held = await percent();
  // Where others leave it less than its half of a processor, only a smaller limit shows that it is held.
  await queue("systemctl set-property --runtime docker.slice CPUQuota=5%");
  const less = await percent();
  await queue("docker rm --force burn; rm -r /run/systemd/system.control; systemctl daemon-reload");
  assert.ok(held < 58 && less > 0 && less < 9, `${held}%, ${less}%`);
  const take = (image: string) =>
    `docker run --rm --memory 1g ${image} sh -c 'head -c 200000000 /dev/zero | tail -c 200000000 | head -c 1; echo $?'`;
  assert.match(await queue(take(runner)), /Killed|137/);
  assert.match(await on("plain", take("runner")), /0\n$/);
  const fork = (image: string) => `docker run --rm ${image} sh -c 'for i in $(seq 100); do sleep 1 & done; wait; echo all'`;
  assert.match(await queue(fork(runner)), /fork/i);
  assert.match(await on("plain", fork("runner")), /all\n$/);
});

test("verify finds who may use it without being declared, limits that hold no more, and a container outside of them", async () => {
  await queue("usermod -aG docker eve; systemctl set-property --runtime docker.slice MemoryMax=1G");
  const found = (await verify()).stderr;
  assert.match(found, /docker:members.*eve/);
  assert.match(found, /docker:limits.*bytes of memory is 1073741824, expected 134217728/);
  await queue("gpasswd -d eve docker; rm -r /run/systemd/system.control; systemctl daemon-reload");
  await queue(`docker run --detach --rm --name out --cgroup-parent system.slice ${runner} sleep 100`);
  assert.match((await verify()).stderr, /docker:limits.*runs outside of docker\.slice/);
  await queue("docker kill out");
  assert.is((await verify()).code, 0);
});

test("a container's log keeps its end, within its limit", async () => {
  await queue(`docker run --name log ${runner} sh -c 'yes a line of a log | head -n 300000; echo the end' >/dev/null`);
  const bytes = Number(await queue("cat /var/lib/docker/containers/$(docker inspect --format '{{.Id}}' log)/*-json.log* | wc -c"));
  assert.ok(bytes > 400_000 && bytes < 1_050_000, String(bytes));
  assert.is(await queue("docker logs --tail 1 log; docker rm log >/dev/null"), "the end\n");
});

test("what a container publishes is closed until it is declared", async () => {
  const serve = "python3 -m http.server --directory /usr/share/common-licenses 80";
  await queue(`docker run --detach --restart unless-stopped --name web --publish 8080:80 --volume /usr:/usr:ro ${runner} ${serve}`);
  const ask = "curl --silent --max-time 60 --connect-timeout 3 --output /dev/null --write-out '%{http_code}'";
  await until(queue, `${ask} http://127.0.0.1:8080/`, /^200$/);
  assert.is(await on("plain", `${ask} http://10.83.0.10:8080/`), "000");
  assert.match((await verify()).stderr, /host:ports.*0\.0\.0\.0:8080 \(tcp, docker-proxy\)/);
  edit("settings: { max", "opens: [{ port: 8080 }]\n      settings: { max");
  assert.equal((await apply()).changed, ["firewall"]);
  assert.is(await on("plain", `${ask} http://10.83.0.10:8080/`), "200");
});

test("limits change while containers run, and settings of the daemon do not stop them", async () => {
  const started = "docker inspect --format '{{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}' web";
  const before = await queue(started);
  edit("cpu: 50%, memory: 128MiB", "cpu: 80%, memory: 256MiB");
  edit("max-concurrent-downloads: 2", "max-concurrent-downloads: 1");
  assert.equal((await apply()).changed, ["docker:daemon"]);
  assert.is(await queue(started), before);
  assert.is((await verify()).code, 0);
  assert.equal((await apply()).changed, []);
});

test("another archive is another image; the one before is gone, and comes back by rollback", async () => {
  const before = await idOf("queue", runner);
  await queue("docker rm --force web");
  const sha256 = dockerArchive(file("stacks/runner.tar"), { root, programs, tag: "other:1", files: { new: "" } });
  edit(/default: "[0-9a-f]{64}"/, `default: "${sha256}"`);
  assert.equal((await apply()).changed.sort(), ["docker:image-example/runner:1.2", "docker:image-runner"]);
  const after = await idOf("queue", runner);
  assert.is.not(after, before);
  assert.is(await queue(`docker run --rm ${runner} cat /new`), "");
  assert.match(await queue(`docker image inspect ${before}`), /No such image/);
  assert.is((await project.ingot(["rollback", "docker"])).code, 0);
  assert.is(await idOf("queue", runner), before);
  assert.is(await idOf("plain", "runner"), before);
  assert.ok((await apply()).ok);
});

test("containers are back after dockerd was killed, and after a reboot, which changes nothing", async () => {
  await queue(`docker run --detach --restart unless-stopped --name stays ${runner} sh -c 'trap exit TERM; while :; do sleep 0.2; done'`);
  const state = "docker inspect --format '{{.State.Status}}' stays";
  const back = () => until(queue, `${state} 2>/dev/null`, /^running$/m);
  await queue("pid=$(pidof dockerd); kill -KILL $pid; while [ -e /proc/$pid ]; do sleep 0.1; done");
  await back();
  await project.reboot("docker/queue");
  await back();
  assert.equal((await apply()).changed, []);
  const stop = await project.ingot(["stop", "docker"]);
  assert.is(stop.code, 0, stop.stderr);
  const start = await project.ingot(["start", "docker"]);
  assert.is(start.code, 0, start.stderr);
  await back();
  assert.equal((await apply()).changed, []);
  assert.is((await verify()).code, 0);
});

test("a running machine does not become one that keeps containers elsewhere", async () => {
  const text = readFileSync(file(), "utf8");
  edit(/ {4}volumes:\n.*\n/, "");
  const refused = await project.ingot(["apply", "docker/queue"]);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /docker\/queue was launched without what containers in \/var\/lib\/docker need/);
  writeFileSync(file(), text);
});

test("a killed launch leaves no container behind, and what is on the volume outlives the machine", async () => {
  assert.is((await project.ingot(["down", "docker"])).code, 0);
  const { child, ended } = project.begin(["up", "docker"]);
  const report = file(".ingot/machines/docker/queue/report/steps.jsonl");
  while (child.exitCode === null && !(existsSync(report) && readFileSync(report, "utf8").includes("docker:daemon"))) await pause();
  child.kill("SIGKILL");
  await ended;
  assert.is((await project.ingot(["gc"])).code, 0);
  assert.equal(project.left(), []);
  const up = await project.ingot(["up", "docker"]);
  assert.is(up.code, 0, up.stderr + up.stdout);
  assert.match(await queue("docker ps --all --format '{{.Names}} {{.Status}}'"), /^stays /m);
});

test("what is declared no more is off, and its containers with it", async () => {
  await on("plain", "docker run --detach --restart always --name stays runner sh -c 'trap exit TERM; while :; do sleep 0.2; done'");
  edit(/( {2}plain:\n {4}image: debian-12\n)[\s\S]*/, "  plain:\n    image: debian-12\n");
  const applied = await project.ingot(["apply", "docker/plain"]);
  assert.is(applied.code, 0, applied.stderr);
  assert.is(
    await on("plain", "systemctl is-active docker.service docker.socket containerd.service docker.slice"),
    "inactive\ninactive\ninactive\ninactive\n",
  );
  assert.is(await on("plain", "pgrep --full 'trap exi[t]'"), "");
});

test.run();
