// From a stack to its plan: the order of the steps, what the digest hangs on, where each thing came from, and what the host
// must understand of it.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { dump, load } from "js-yaml";
import * as assert from "uvu/assert";
import { compile, planJson } from "../../cloud-init/compile.ts";
import type { Arg, Check, HostPlan, Step } from "../../cloud-init/plan.ts";
import { kinds } from "../../cloud-init/resources/index.ts";
import { userDataOf } from "../../cloud-init/user-data.ts";
import { sha256 } from "../../lib/digest.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";
import { modelOfText, planOf, stackWith } from "./fixtures.ts";

const test = suite("compile");

const inloop = readFileSync(join(toolFolder, "stacks/inloop.yaml"), "utf8");
const plan = planOf(inloop);
const examples = kinds.flatMap((k) => k.examples.map((e) => planOf(stackWith(e))));
const every = [plan, ...examples];

/** All steps that a step waits for, directly or not. */
function before(all: readonly Step[], id: string, seen = new Set<string>()): Set<string> {
  for (const other of all.find((s) => s.id === id)?.after ?? []) {
    if (seen.has(other)) continue;
    seen.add(other);
    before(all, other, seen);
  }
  return seen;
}
const waits = (p: HostPlan, id: string, other: string): boolean => {
  assert.ok(
    p.generation.steps.some((s) => s.id === id),
    `there is no step ${id}`,
  );
  assert.ok(
    p.generation.steps.some((s) => s.id === other),
    `there is no step ${other}`,
  );
  return before(p.generation.steps, id).has(other);
};

test("limits are in the plan, and the host is the same generation with them", () => {
  const limited = planOf(stackWith("limits: { cpus: 0.5, memory: 512MiB }\n"));
  assert.equal(limited.limits, { cpus: 0.5, memory: 512 * 2 ** 20 });
  const { limits, ...unlimited } = planOf(stackWith("hostname: web\n"));
  assert.is(limits, undefined);
  assert.is(limited.generation.digest, unlimited.generation.digest);
});

test("what refers to a resource comes after it, however far away", () => {
  for (const [id, other] of [
    ["directory//var/lib/inloop/media", "user/huey"],
    ["directory//var/lib/inloop/media/solutions", "directory//var/lib/inloop/media"],
    ["directory//var/lib/inloop", "volume/inloop"],
    ["postgresql", "volume/postgresql"],
    ["database/inloop", "role/inloop"],
    ["role/inloop", "postgresql"],
    ["application/inloop:before-live-1", "database/inloop"],
    ["application/inloop:before-live-2", "application/inloop:before-live-1"],
    ["application/inloop:superuser", "application/inloop:before-live-3"],
    ["application/inloop:live", "application/inloop:superuser"],
    ["service/gunicorn", "application/inloop:live"],
    ["nginx", "service/gunicorn"],
    ["nginx", "certificate/inloop"],
  ] as const)
    assert.ok(waits(plan, id, other), `${id} must wait for ${other}`);
});

test("what has nothing to do with each other runs at the same time", () => {
  for (const [id, other] of [
    ["application/inloop:release", "postgresql"],
    ["application/inloop:env", "user/gunicorn"],
    ["certificate/inloop", "postgresql"],
    ["redis", "postgresql"],
    ["hostname", "hostname:ssh"],
    ["service/huey", "service/gunicorn"],
  ] as const) {
    assert.not.ok(waits(plan, id, other), `${id} need not wait for ${other}`);
    assert.not.ok(waits(plan, other, id), `${other} need not wait for ${id}`);
  }
  assert.ok(plan.generation.steps.filter((s) => !s.after.length).length >= 8);
});

test("a late step waits for what waits for its resource, and nobody waits for it", () => {
  assert.ok(waits(plan, "user/huey:ssh-key", "directory//var/lib/inloop"));
  assert.ok(waits(plan, "directory//var/lib/inloop", "user/huey"));
  assert.not.ok(plan.generation.steps.some((s) => s.after.includes("user/huey:ssh-key")));
});

test("a directory waits for the user whose group it has", () => {
  const p = planOf(stackWith("users:\n  shop: { system: true }\ndirectories:\n  /srv/data: { group: shop }\n"));
  assert.ok(waits(p, "directory//srv/data", "user/shop"));
});

test("whoever refers to a resource without steps waits for what that resource waits for", () => {
  const p = planOf(
    stackWith(
      "users:\n  a: { system: true }\nservices:\n  a: { user: a, command: a, listens: 127.0.0.1:1234 }\nsites:\n  a: { names: [a.localhost], http: true, proxy: service/a }\n",
    ),
  );
  assert.ok(waits(p, "nginx", "service/a"));
});

test("an image for Docker is an artifact, and programs that may use Docker wait for it, by whichever way they are in its group", () => {
  const archive = "keys/ops.pub"; // any file
  const digest = "c0ffee00".repeat(8);
  const made = planOf(
    stackWith(
      `docker: { images: { "a/b:1": { archive: ${archive}, sha256: ${digest} } } }\nusers: { one: { system: true }, two: { system: true, groups: [docker] } }\nservices:\n  own: { user: one, command: sleep 1, groups: [docker] }\n  theirs: { user: two, command: sleep 1 }\n  other: { user: one, command: sleep 1 }\n`,
    ),
  );
  assert.equal(made.artifacts, [{ resource: "docker", id: "a/b:1", sha256: digest, path: join(toolFolder, "stacks", archive) }]);
  assert.is(made.containers, "/var/lib/docker");
  const waits = ["own", "theirs", "other"].map((name) => before(made.generation.steps, `service/${name}`).has("docker:image-a/b:1"));
  assert.equal(waits, [true, true, false]);
});

test("a volume is mounted before the one that is mounted below it", () => {
  const p = planOf(stackWith("volumes:\n  b: { mount: /srv/data/more }\n  a: { mount: /srv/data }\n"));
  assert.ok(waits(p, "volume/b", "volume/a"));
});

test("steps have ids of their own that systemd and the host can hold, and wait for steps that there are", () => {
  for (const { generation } of every) {
    const ids = generation.steps.map((s) => s.id);
    assert.is(new Set(ids).size, ids.length, `${ids}`);
    for (const step of generation.steps) {
      assert.match(step.id, /^[A-Za-z0-9._/:@-]+$/);
      for (const other of step.after) assert.ok(ids.includes(other), `${step.id} waits for ${other}, which is not there`);
      assert.not.ok(before(generation.steps, step.id).has(step.id), `${step.id} waits for itself`);
      assert.equal(step.after, [...new Set(step.after)].sort());
      assert.ok(step.timeoutSeconds > 0);
    }
  }
});

test("checks have ids of their own", () => {
  for (const { generation, checks } of every) {
    const ids = [...generation.checks, ...checks].map((c) => c.id);
    assert.equal(
      ids.filter((id, i) => ids.indexOf(id) < i),
      [],
    );
  }
});

test("a file is made by one resource only", () => {
  for (const { generation } of every) {
    const paths = generation.files.map((f) => f.path);
    assert.is(new Set(paths).size, paths.length, `${paths}`);
  }
});

test("every resource of a step, file, check, port and secret has the place in the YAML where it was declared", () => {
  for (const p of every) {
    const { steps, files, checks } = p.generation;
    for (const { resource } of [...steps, ...files, ...checks, ...p.checks, ...p.ports, ...p.secrets, ...p.wants])
      assert.ok(p.origins[resource], `${resource} has no origin`);
  }
  const at = plan.origins["database/inloop"];
  assert.is(inloop.slice(at?.start.offset, at?.end.offset), "inloop");
  assert.is(inloop.split("\n")[(at?.start.line ?? 0) - 1]?.trim(), "inloop: { owner: inloop }");
  // What is implied was not written: it points at what implies it.
  assert.is(inloop.slice(plan.origins.nginx?.start.offset, plan.origins.nginx?.end.offset), "inloop");
});

// --- The digest -------------------------------------------------------------------------------------------------------------

const small = stackWith(
  'users:\n  ops: { uid: 3000, groups: [sudo], sudo: password }\ndirectories:\n  /srv/data: { owner: ops, mode: "0750" }\nfiles:\n  /etc/issue: { content: hello, mode: "0644" }\n',
);
const digest = (text: string): string => planOf(text).generation.digest;

test("the digest is that of the plan's bytes", () => {
  for (const { generation } of every) assert.is(generation.digest, sha256(planJson(generation)));
});

test("comments, white space, quotes and the order of a resource's keys do not change the digest", () => {
  const was = digest(small);
  assert.is(digest(`# about it\n\n${small.replaceAll("\n", " # why\n")}`), was);
  assert.is(digest(small.replaceAll("    ", "        ").replaceAll(", ", ",   ")), was);
  assert.is(
    digest(small.replace("{ uid: 3000, groups: [sudo], sudo: password }", "{ sudo: 'password', groups: [\"sudo\"], uid: 3000 }")),
    was,
  );
  assert.is(digest(small.replace("hostname: web\n", "")), was);
  assert.is(digest(dump(load(small))), was);
});

test("each change of what the host becomes changes the digest", () => {
  const seen = new Set([digest(small)]);
  for (const [from, to] of [
    ["hello", "hello!"],
    ["3000", "3001"],
    ["0750", "0751"],
    ["0644", "0600"],
    ["/srv/data", "/srv/date"],
    ["sudo: password", "sudo: none"],
    ["owner: ops", "owner: root"],
    ["image: debian-12", "image: debian-12\n    hostname: other"],
    ["image: debian-12", "image: debian-12\n    domain: example.org"],
    ["image: debian-12", "image: debian-12\n    redis: {}"],
  ] as const) {
    assert.ok(small.includes(from), from);
    const is = digest(small.replace(from, to));
    assert.not.ok(seen.has(is), `${from} → ${to}`);
    seen.add(is);
  }
});

test("two compilations of one stack are the same bytes", () => {
  assert.is(JSON.stringify(compile(modelOfText(inloop))), JSON.stringify(compile(modelOfText(inloop))));
});

// --- Secrets ----------------------------------------------------------------------------------------------------------------

test("a secret is in plan and user-data by its name only, wherever it is used", () => {
  const uses = planOf(
    stackWith(
      "users:\n  shop: { system: true, home: /srv/home, ssh_key: generate }\ndirectories:\n  /srv/home: { owner: shop }\nroles:\n  shop: { password: { secret: role-password } }\ndatabases:\n  shop: { owner: shop }\napplications:\n  shop:\n    source: ../tests/apps/inloop\n    user: shop\n    env: { KEY: { secret: the-key, generate: hex64 }, DATABASE_URL: { from: database/shop.url } }\n",
    ),
  );
  assert.equal(uses.secrets.map((s) => s.name).sort(), ["role-password", "the-key", "web/ssh-host-key", "web/user/shop/ssh-key"]);
  const named = new Set(uses.secrets.map((s) => s.name));
  const found: string[] = [];
  const walk = (value: unknown): void => {
    if (!value || typeof value !== "object") return;
    if ("secret" in value) found.push(String(value.secret));
    for (const v of Object.values(value)) walk(v);
  };
  for (const step of uses.generation.steps) walk(step.args);
  assert.equal(new Set(found), named, "every secret that a step reads is one that the target brings, and the other way round");
  // The url of the database carries its password as a reference, percent-encoded on the host.
  const env = uses.generation.steps.find((s) => s.id === "application/shop:env")?.args.env as Extract<Arg, { render: unknown }>;
  assert.equal(env.render.format === "env" && env.render.values.DATABASE_URL, [
    "postgres://shop:",
    { secret: "role-password", encode: "url" },
    "@127.0.0.1:5432/shop",
  ]);
});

test("what is made at first is told once, though several use it", () => {
  const p = planOf(
    stackWith(
      "users:\n  shop: { system: true }\napplications:\n  a: { source: ../tests/apps/inloop, user: shop, env: { A: { secret: key, generate: hex64 } } }\n  b: { source: ../tests/apps/inloop, user: shop, env: { A: { secret: key } } }\n",
    ),
  );
  assert.equal(
    p.secrets.filter((s) => s.name === "key").map((s) => s.generate),
    ["hex64"],
  );
});

test("steps, checks and files that everybody on the host may read hold no sensitive value", () => {
  for (const { generation } of every)
    for (const { path, mode, content } of generation.files.filter((f) => f.mode !== "0600"))
      assert.not.match(content, /BEGIN [A-Z ]*PRIVATE KEY|:\/\/[^/\s:@]*:[^/\s@]+@/, `${path} ${mode}`);
});

test("user-data holds the plan, and no word of the stack's comments", () => {
  const text = userDataOf(planOf(`# the password is hunter2\n${small}`)).text;
  assert.not.match(text, /hunter2/);
});

// --- What the host understands ----------------------------------------------------------------------------------------------

const actions = join(toolFolder, "cloud-init/host/actions");

test("every action has its script", () => {
  const used = new Set(every.flatMap((p) => p.generation.steps.map((s) => s.action)));
  for (const action of used) assert.ok(existsSync(join(actions, `${action}.sh`)), `${action}.sh is not there`);
});

/** The checks that check.py can run and the arguments of each: read from its source, as `def name(a, b=None)` below `@check`. */
const checkers = (() => {
  const source = readFileSync(join(toolFolder, "cloud-init/host/check.py"), "utf8");
  const found = new Map<string, { required: string[]; known: string[] }>();
  for (const [, name = "", list = ""] of source.matchAll(/^@check\ndef (\w+)\(([^)]*)\)/gm)) {
    const args = list
      .split(",")
      .map((a) => a.trim())
      .filter(Boolean);
    const names = args.map((a) => a.split("=")[0] ?? "");
    found.set(name.replace(/_$/, ""), { required: args.filter((a) => !a.includes("=")), known: names });
  }
  return found;
})();
/** Given by whoever runs the check: which machine is asked, its certificate, and for how long. */
const given = ["host", "connect", "ca", "pin", "within", "timeout"];

test("every check is a function of check.py, with arguments that it takes and all that it needs", () => {
  assert.ok(checkers.size > 10);
  const wrong = (check: Check): string[] => {
    const known = checkers.get(check.check);
    if (!known) return [`${check.id}: there is no check ${check.check}`];
    const args = Object.keys(check.args);
    const outside = check.seen === "inside" ? ["within", "timeout"] : given;
    return [
      ...args.filter((a) => ![...known.known, "within"].includes(a)).map((a) => `${check.id}: ${check.check} takes no ${a}`),
      ...known.required.filter((a) => !args.includes(a) && !outside.includes(a)).map((a) => `${check.id}: ${check.check} needs ${a}`),
    ];
  };
  assert.equal(
    every.flatMap((p) => [...p.generation.checks, ...p.checks].flatMap(wrong)),
    [],
  );
});

test("an argument of an action can be an environment variable: no NUL, no newline in a list's entry", () => {
  for (const p of every) {
    for (const step of p.generation.steps) {
      for (const [name, arg] of Object.entries(step.args)) {
        assert.match(name, /^[a-z][a-z_0-9]*$/, step.id);
        if (typeof arg === "string") assert.not.match(arg, /\0/);
        if (Array.isArray(arg)) for (const entry of arg) assert.not.match(entry, /[\0\n]/, `${step.id} ${name}`);
      }
    }
  }
});

test("every argument that an action insists on is given, and each that is given is read", () => {
  for (const p of every) {
    for (const step of p.generation.steps) {
      const script = readFileSync(join(actions, `${step.action}.sh`), "utf8");
      const libraries = [...script.matchAll(/lib(?:-\w+)?\.sh/g)].map((m) => readFileSync(join(actions, m[0]), "utf8")).join("\n");
      for (const [, name = ""] of script.matchAll(/\$\{ARG_([A-Z0-9_]+):\?/g))
        assert.ok(name.toLowerCase() in step.args, `${step.id}: ${step.action} needs ${name.toLowerCase()}`);
      for (const name of Object.keys(step.args))
        assert.match(
          `${script}\n${libraries}`,
          // Numbered ones are read in a loop.
          new RegExp(`ARG_${name.toUpperCase().replace(/_[0-9]+$/, "_1")}\\b`),
          `${step.id}: ${step.action} does not read ${name}`,
        );
    }
  }
});

test("what the image must have is asked of it", () => {
  for (const wanted of ["openssh-server", "nginx", "redis-server", "postgresql-15", "sudo", "zstd", "python3-venv", "openssl"])
    assert.ok(
      plan.wants.some((w) => w.need === "package" && w.name === wanted),
      wanted,
    );
});

test("only what is declared may be open from outside", () => {
  assert.equal(
    plan.ports.map((p) => p.port).sort((a, b) => a - b),
    [22, 80, 443],
  );
  const listening = plan.generation.checks.find((c) => c.check === "listening");
  assert.equal(
    listening?.args.allowed,
    plan.ports.map(({ port, protocol }) => ({ port, protocol })),
  );
});

test("a size is in bytes", () => {
  const sizes = planOf(
    stackWith("volumes:\n  a: { mount: /a, size: 512MiB }\n  b: { mount: /b, size: 10GiB }\n  c: { mount: /c, size: 2TiB }\n"),
  );
  assert.equal(
    sizes.volumes.map((v) => v.size),
    [512 * 2 ** 20, 10 * 2 ** 30, 2 * 2 ** 40],
  );
});

test("the order is a graph without circles for any directories, volumes and owners", () => {
  const path = fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 4 }).map((parts) => `/srv/${parts.join("/")}`);
  fc.assert(
    fc.property(
      fc.dictionary(path, fc.constantFrom("u", "v", "root", "www-data"), { maxKeys: 6, noNullPrototype: true }),
      fc.uniqueArray(path, { maxLength: 3 }),
      (directories, mounts) => {
        const p = planOf(
          stackWith(
            dump({
              users: { u: { system: true }, v: { system: true, home: "/srv/a" } },
              directories: Object.fromEntries(Object.entries(directories).map(([d, owner]) => [d, { owner }])),
              volumes: Object.fromEntries(mounts.map((mount, i) => [`v${i}`, { mount }])),
            }),
          ),
        );
        const { steps } = p.generation;
        for (const step of steps) assert.not.ok(before(steps, step.id).has(step.id));
        for (const d of Object.keys(directories))
          for (const above of Object.keys(directories))
            if (d !== above && d.startsWith(`${above}/`)) assert.ok(waits(p, `directory/${d}`, `directory/${above}`));
      },
    ),
    { numRuns: 100 },
  );
});

test.run();
