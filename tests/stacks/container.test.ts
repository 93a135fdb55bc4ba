import * as assert from "uvu/assert";
import { lock } from "../../lib/lock.ts";
import { projectAt } from "../../lib/paths.ts";
import { addressPlan } from "../../stacks/local/address.ts";
import { groupPaths } from "../../stacks/local/cgroup.ts";
import { choosePorts, forwardable, preferredPort } from "../../stacks/local/forward.ts";
import { linkName, machineName, networkName } from "../../stacks/local/names.ts";
import { nspawnArguments } from "../../stacks/local/nspawn.ts";
import { parseLine } from "../../stacks/local/report.ts";
import { suite } from "../suite.ts";

const test = suite("container target");
const project = projectAt("/home/ops/project");

test("two projects with a stack of the same name share no name on this computer", () => {
  assert.is.not(networkName(project, "inloop"), networkName(projectAt("/home/ops/other"), "inloop"));
  assert.is.not(networkName(project, "inloop"), networkName(project, "other"));
  assert.is(networkName(project, "inloop"), networkName(project, "inloop"));
});

test("machine names are host names of at most 64 characters, and stay apart when a host's name is cut", () => {
  const long = "a-host-with-a-name-that-is-longer-than-anybody-would-want-it-to-be";
  for (const host of ["web", "web_1", "Web", long, `${long}2`]) {
    const name = machineName(project, "inloop", host);
    assert.match(name, /^ingot-[0-9a-f]{6}-[a-z0-9][a-z0-9-]*[a-z0-9]$/);
    assert.ok(name.length <= 64, name);
  }
  assert.is(new Set(["web", "web_1", "web1", "Web", long, `${long}2`].map((h) => machineName(project, "inloop", h))).size, 6);
});

test("an interface's name fits into 15 characters", () => assert.ok(linkName(239).length <= 15));

test("machines are numbered from 10.83.0.10 on, the operator is .1", () => {
  const plan = addressPlan([{ host: "web" }, { host: "db" }]);
  assert.is(plan.operator, "10.83.0.1");
  assert.equal(
    [...plan.machines],
    [
      ["web", "10.83.0.10"],
      ["db", "10.83.0.11"],
    ],
  );
});

test("more hosts than addresses are refused", () =>
  assert.throws(() => addressPlan(Array.from({ length: 254 }, (_, i) => ({ host: `h${i}` }))), /do not fit/));

test("well-known ports have a fixed place on the loopback", () => {
  assert.equal([443, 80, 22, 5432, 60000].map(preferredPort), [8443, 8080, 2222, 25432, 60000]);
});

test("a port that is taken gives way to the next free one, also between hosts", async () => {
  const taken = new Set<number>();
  const free = async (port: number) => port !== 8443;
  assert.equal(await choosePorts([443, 80], taken, free), { 443: "127.0.0.1:8444", 80: "127.0.0.1:8080" });
  assert.equal(await choosePorts([443], taken, free), { 443: "127.0.0.1:8445" });
});

test("a port that another launch is about to listen at is not chosen, also by one that knows nothing of it", async () => {
  const [first] = Object.values(await choosePorts([31999], new Set()));
  const port = Number(first?.split(":")[1]);
  const other = await lock(`port ${port + 1}`, "a launch");
  assert.equal(await choosePorts([31999], new Set([port])), { 31999: `127.0.0.1:${port + 2}` });
  other.release();
  // Its own, which it has not listened at yet.
  assert.equal(await choosePorts([31999], new Set()), { 31999: first });
});

test("only TCP ports for the world are forwarded, each once", () => {
  const port = (number: number, protocol: "tcp" | "udp", from: "world" | "stack") => ({ port: number, protocol, from, resource: "site/x" });
  assert.equal(
    forwardable([port(443, "tcp", "world"), port(443, "tcp", "world"), port(53, "udp", "world"), port(5432, "tcp", "stack")]),
    [443],
  );
});

test("the machine's cgroup is below the caller's in every hierarchy", () => {
  const own = "9:name=systemd:/\n4:memory:/caller/abc\n1:cpu,cpuacct:/\n0::/user.slice\n";
  assert.equal(groupPaths("ingot-x", own), ["ingot-x", "caller/abc/ingot-x", "ingot-x", "user.slice/ingot-x"]);
});

test("nspawn gets the namespace, the seed and the facts read-only, and the report to write", () => {
  assert.equal(
    nspawnArguments({
      name: "ingot-aaaaaa-web",
      hostname: "inloop",
      folder: "/p/.ingot/machines/a:b/web",
      shared: [{ from: "/p/a:b", to: "/run/ingot/shared/web/media" }],
    }),
    [
      "--quiet",
      "--settings=no",
      "--directory=/p/.ingot/machines/a:b/web/root",
      "--machine=ingot-aaaaaa-web",
      "--hostname=inloop",
      "--register=no",
      "--keep-unit",
      "--network-namespace-path=/run/netns/ingot-aaaaaa-web",
      "--capability=CAP_NET_ADMIN",
      "--console=read-only",
      "--link-journal=no",
      "--resolv-conf=off",
      "--timezone=off",
      "--bind-ro=/p/.ingot/machines/a\\:b/web/seed:/var/lib/cloud/seed/nocloud",
      "--bind-ro=/p/.ingot/machines/a\\:b/web/facts:/run/ingot/facts",
      "--bind-ro=/p/.ingot/machines/a\\:b/web/artifacts:/run/ingot/artifacts",
      "--bind=/p/.ingot/machines/a\\:b/web/report:/run/ingot/report",
      "--bind=/p/a\\:b:/run/ingot/shared/web/media",
      "--boot",
    ],
  );
});

test("only a machine that runs containers of its own gets more", () => {
  const machine = { name: "ingot-aaaaaa-web", hostname: "inloop", folder: "/p/web", shared: [] };
  const plain = nspawnArguments(machine).filter((a) => a !== "--boot");
  const more = (on: "volume" | "machine") =>
    nspawnArguments({ ...machine, containers: { folder: "/var/lib/docker", on } }).filter((a) => !plain.includes(a));
  assert.ok(more("volume").includes("--system-call-filter=@keyring bpf"));
  assert.not(more("volume").some((a) => a.includes("/var/lib/docker")));
  assert.ok(more("machine").includes("--bind=/p/web/containers:/var/lib/docker"));
});

test("a report's lines become events, and what is no such line is passed over", () => {
  assert.equal(parseLine("web", '{"step":"user/ops","outcome":"changed","seconds":0.2,"log":"x"}'), {
    event: "step",
    host: "web",
    step: { step: "user/ops", outcome: "changed", seconds: 0.2, log: "x" },
  });
  assert.equal(parseLine("web", '{"generation":"abc","outcome":"failed","seconds":3}'), {
    event: "activated",
    host: "web",
    activation: { generation: "abc", outcome: "failed", seconds: 3, written: 0, removed: 0 },
  });
  assert.equal(parseLine("web", '{"generation":"abc","outcome":"done","seconds":1,"written":2,"removed":1}'), {
    event: "activated",
    host: "web",
    activation: { generation: "abc", outcome: "done", seconds: 1, written: 2, removed: 1 },
  });
  for (const line of [
    "",
    "null",
    "[]",
    '{"step":"x"',
    '{"step":"x","outcome":"maybe","seconds":1}',
    '{"step":1,"outcome":"failed","seconds":1}',
  ])
    assert.is(parseLine("web", line), undefined, line);
});

test.run();
