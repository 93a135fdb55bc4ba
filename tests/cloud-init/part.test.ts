// A part of a host: what comes along with the resources that are named, and the generation that the host becomes.
import * as assert from "uvu/assert";
import { compile, planJson } from "../../cloud-init/compile.ts";
import { generationFrom, partOf, withPart } from "../../cloud-init/part.ts";
import type { Generation } from "../../cloud-init/plan.ts";
import { sha256 } from "../../lib/digest.ts";
import { suite } from "../suite.ts";
import { modelOfText, stackWith } from "./fixtures.ts";

const test = suite("part");

const before = stackWith(`users:
  shop: { system: true }
  clerk: { system: true }
applications:
  shop: { source: ../tests/apps/hello, user: shop, after_live: ["true"] }
  other: { source: ../tests/apps/hello, user: clerk }
services:
  shop: { application: shop, user: shop, command: sleep 1, listens: "127.0.0.1:8001" }
  work: { application: shop, user: shop, command: sleep 1 }
  apart: { user: clerk, command: sleep 1 }
sites:
  shop: { names: [shop.localhost], http: true, proxy: service/shop }
  plain: { names: [plain.localhost], http: true, locations: { /: { files: /srv/plain } } }
`);

function hostOf(text: string) {
  const model = modelOfText(text);
  const [host] = model.hosts;
  const [plan] = compile(model).hosts;
  if (!host || !plan) throw new Error("no host");
  return { host, plan };
}
const { plan: first } = hostOf(before);
const now = first.generation;
/** What comes along, when a stack is as `text`. */
const along = (text: string, ...named: string[]): string[] => {
  const { host, plan } = hostOf(text);
  return [...partOf(host, plan, named, now)].sort();
};
const planned = (text: string, ...named: string[]) => {
  const { host, plan } = hostOf(text);
  return withPart(host, plan, partOf(host, plan, named, now), now);
};
const become = (text: string, ...named: string[]): Generation => planned(text, ...named).generation;

test("what plan.json says is read back as the same generation", () => {
  const contents = new Map(now.files.map((f) => [sha256(f.content), f.content]));
  const read = generationFrom(planJson(now), (name) => contents.get(name) ?? "");
  assert.is(read.digest, now.digest);
  assert.equal(
    read.steps.map((s) => s.resource),
    now.steps.map((s) => s.resource),
  );
});

test("a resource comes with what it needs, an application with what runs it, a site with nginx", () => {
  assert.equal(along(before, "service/apart"), ["service/apart", "user/clerk"]);
  assert.equal(along(before, "application/other"), ["application/other", "user/clerk"]);
  assert.equal(along(before, "application/shop"), ["application/shop", "service/shop", "service/work", "user/shop"]);
  assert.equal(along(before, "site/plain"), ["nginx", "site/plain"]);
});

test("what takes over brings only what the host does not have yet", () => {
  const more = before.replace(
    "sites:\n",
    "sites:\n      new: { names: [new.localhost], http: true, locations: { /: { files: /srv/plain } } }\n",
  );
  assert.equal(along(more, "site/plain"), ["nginx", "site/new", "site/plain"]);
});

test("where nothing differs it is the same generation; else it differs in the part alone", () => {
  assert.is(become(before, "service/apart").digest, now.digest);
  const changed = before.replaceAll("sleep 1", "sleep 2").replace("clerk: { system: true }", "clerk: { system: true, groups: [adm] }");
  const part = become(changed, "service/apart");
  const differing = (key: "steps" | "files") =>
    part[key].filter((t) => !now[key].some((o) => JSON.stringify(o) === JSON.stringify(t))).map((t) => ("path" in t ? t.path : t.id));
  assert.equal(differing("files"), ["/etc/systemd/system/apart.service"]);
  assert.equal(differing("steps"), ["user/clerk"]);
  assert.is.not(part.digest, now.digest);
  assert.is.not(part.digest, hostOf(changed).plan.generation.digest);
});

test("what is declared no more, or not named, stays; a step waits for nothing that is not there", () => {
  const without = before.replace(/ {6}work: .*\n/, "").replace('after_live: ["true"]', 'before_live: ["true"]');
  const part = become(without, "application/shop");
  assert.ok(part.steps.some((s) => s.id === "service/work"));
  assert.not.ok(part.steps.some((s) => s.id === "application/shop:after-live-1"));
  const ids = new Set(part.steps.map((s) => s.id));
  assert.equal(
    part.steps.flatMap((s) => s.after).filter((id) => !ids.has(id)),
    [],
  );
});

test("from outside is asked what is then as the stack has it", () => {
  const checks = "    checks:\n      home: { site: shop, get: /, contains: x }\n      plain: { site: plain, get: /, contains: x }\n";
  const asked = (text: string) =>
    planned(text, "application/shop")
      .checks.filter((c) => c.resource.startsWith("check/"))
      .map((c) => c.resource);
  assert.equal(asked(before + checks), ["check/home", "check/plain"]);
  assert.equal(asked(before.replace("[plain.localhost]", "[other.localhost]") + checks), ["check/home"]);
});

test("ports that the part opens are allowed beside those that were open", () => {
  const more = before.replace('command: sleep 1, listens: "127.0.0.1:8001"', 'command: sleep 1, listens: "0.0.0.0:8002", open_to: world');
  const allowed = (g: Generation) => JSON.stringify(g.checks.find((c) => c.id === "host:ports")?.args.allowed);
  assert.not.match(allowed(now), /8002/);
  assert.match(allowed(become(more, "service/shop")), /"port":80[,}].*"port":8002/);
});

test.run();
