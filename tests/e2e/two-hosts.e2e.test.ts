// Two hosts with fixed addresses: they reach each other, are powered off and on with their data, and files go there and back.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("two hosts");
let project: TestProject;

const stack = `stack: pair
network: 10.1.1.0/24
hosts:
  database:
    image: debian-12
    address: 10.1.1.1
    users:
      store: { system: true }
    volumes:
      data: { mount: /srv/data, size: 64MiB }
    services:
      store: { user: store, command: python3 -m http.server --bind 0.0.0.0 --directory /srv/data 9000, listens: 0.0.0.0:9000, open_to: stack }
  application:
    image: debian-12
    address: 10.1.1.2
    limits: { cpus: 0.5, memory: 256MiB }
`;

test.before(async () => {
  project = await testProject();
  writeFileSync(join(project.folder, "stacks/pair.yaml"), stack);
});
test.after(async () => {
  await project?.remove();
});

test("hosts have the addresses that the stack gives them, and reach each other there", async () => {
  const up = await project.ingot(["up", "pair"]);
  assert.is(up.code, 0, up.stderr);
  const machines = (await project.json(["status", "pair"])) as { host: string; address: string }[];
  assert.equal(Object.fromEntries(machines.map((m) => [m.host, m.address])), { database: "10.1.1.1", application: "10.1.1.2" });
  await project.on("pair/database", "echo kept >/srv/data/row");
  assert.is((await project.on("pair/application", "curl -s --max-time 60 http://10.1.1.1:9000/row")).stdout, "kept\n");
});

test("what only the stack may reach is not forwarded to this computer", async () => {
  const machines = (await project.json(["status", "pair"])) as { forwards: Record<string, string> }[];
  assert.equal([...new Set(machines.flatMap((m) => Object.keys(m.forwards)))], ["22"]);
});

/** What half a processor and 256 MiB are, seen by what runs on the machine. */
async function limitsHold(): Promise<void> {
  const twice = "for _ in 1 2; do timeout 3 sh -c 'while :; do :; done' & done; wait; times";
  const [, minutes, seconds] = /\n(\d+)m([\d.]+)s/.exec((await project.on("pair/application", twice)).stdout) ?? [];
  const used = Number(minutes) * 60 + Number(seconds);
  assert.ok(used > 0.1 && used < 2.2, `two programs in 3 seconds used ${used} seconds of processors`);
  const large = await project.on("pair/application", "python3 -c 'b = bytearray(400 << 20)'");
  assert.is(large.code, 137, "400 MiB were to be had");
  assert.is((await project.on("pair/application", "python3 -c 'b = bytearray(100 << 20)'")).code, 0);
}

test("a machine uses no more memory and processors than its limits", limitsHold);

test("stopped machines are kept, and are on again with their files, services and data", async () => {
  await project.on("pair/application", "echo here >/root/note");
  const stop = await project.ingot(["stop", "pair"]);
  assert.is(stop.code, 0, stop.stderr);
  assert.equal([...new Set(((await project.json(["status", "pair"])) as { state: string }[]).map((m) => m.state))], ["stopped"]);
  assert.is((await project.ingot(["exec", "pair/database", "--", "true"])).code, 1);
  const start = await project.ingot(["start", "pair"]);
  assert.is(start.code, 0, start.stderr + start.stdout);
  assert.match(start.stdout, /(\d+) of \1 checks passed/);
  assert.is(
    (await project.on("pair/application", "cat /root/note; curl -s --max-time 60 http://10.1.1.1:9000/row")).stdout,
    "here\nkept\n",
  );
  await limitsHold();
});

test("files and folders are copied to a machine and from it", async () => {
  const folder = join(project.folder, "it's a folder");
  mkdirSync(join(folder, "below"), { recursive: true });
  writeFileSync(join(folder, "below/one"), "1\n");
  assert.is((await project.ingot(["cp", folder, "pair/database:/root/it's there"])).code, 0);
  assert.is((await project.on("pair/database", `cat "/root/it's there/below/one"; stat -c %U "/root/it's there"`)).stdout, "1\nroot\n");
  const back = join(project.folder, "back");
  mkdirSync(back);
  assert.is((await project.ingot(["cp", "pair/database:/root/it's there", back])).code, 0);
  assert.is(readFileSync(join(back, "it's there/below/one"), "utf8"), "1\n");
  const lacking = await project.ingot(["cp", "pair/database:/no/such/file", back]);
  assert.is.not(lacking.code, 0);
  assert.match(lacking.stderr, /no\/such|Cannot/);
  assert.not.ok(existsSync(join(back, "file")));
});

test("a volume that grows takes its file system along, on the running machine and with the next launch", async () => {
  const size = async () => Number((await project.on("pair/database", "df --output=size -B1M /srv/data | tail -n 1")).stdout);
  const grow = (to: string) => {
    const file = join(project.folder, "stacks/pair.yaml");
    writeFileSync(file, readFileSync(file, "utf8").replace(/size: \d+MiB/, `size: ${to}`));
  };
  const before = await size();
  grow("128MiB");
  const apply = await project.ingot(["apply", "pair"]);
  assert.is(apply.code, 0, apply.stderr);
  const between = await size();
  assert.ok(between > before + 50, `${before} MiB, then ${between}`);
  assert.is((await project.ingot(["down", "pair"])).code, 0);
  grow("256MiB");
  assert.is((await project.ingot(["up", "pair"])).code, 0);
  assert.ok((await size()) > between + 100);
  assert.is((await project.on("pair/database", "cat /srv/data/row")).stdout, "kept\n");
});

test("down leaves the volume, and up has it again", async () => {
  assert.is((await project.ingot(["down", "pair"])).code, 0);
  assert.is((await project.ingot(["up", "pair"])).code, 0);
  assert.is((await project.on("pair/database", "cat /srv/data/row")).stdout, "kept\n");
  assert.is((await project.ingot(["down", "pair"])).code, 0);
});

test.run();
