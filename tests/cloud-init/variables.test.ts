// Variables from outside the stack's file: an environment's file and the command line, their types, and where each value comes from.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { StackModel } from "../../cloud-init/model.ts";
import { InputError, UsageError } from "../../lib/diagnostics.ts";
import { toolFolder } from "../../lib/paths.ts";
import { parseYaml } from "../../lib/yaml.ts";
import { suite } from "../suite.ts";
import { around, modelOfText } from "./fixtures.ts";

const test = suite("variables");

const text = `stack: shop
vars:
  domain: { default: example.org, description: Where people find it }
  workers: { default: 2 }
  debug: { default: false }
  admins: { type: list }
hosts:
  web:
    image: debian-12
    domain: { var: domain }
    users:
      shop: { system: true }
    services:
      shop:
        user: shop
        command: sleep infinity
        env: { WORKERS: { var: workers }, DEBUG: { var: debug }, ADMINS: { var: admins }, HOSTS: [{ var: domain }, localhost] }
`;
const modelWith = (environment: string | undefined, set: Record<string, string> = {}): StackModel =>
  modelOfText(text, toolFolder, {
    ...around,
    overrides: { set, ...(environment !== undefined && { environment: parseYaml("stacks/shop.staging.yaml", environment) }) },
  });
const envOf = (model: StackModel) =>
  (model.hosts[0]?.resources.get("service/shop")?.value as { env: Record<string, unknown> } | undefined)?.env ?? {};
function wrong(work: () => unknown): string[] {
  try {
    work();
  } catch (error) {
    if (error instanceof InputError) return error.diagnostics.map((d) => `${d.range.file}:${d.range.start.line} ${d.code} ${d.message}`);
    if (error instanceof UsageError) return [error.message];
    throw error;
  }
  throw new Error("nothing is wrong");
}

test("what is said on the command line counts before the environment, and that before the default", () => {
  const model = modelWith("vars: { domain: staging.example.org, workers: 4, admins: [a@example.org] }\n", { workers: "8" });
  assert.equal(envOf(model), { WORKERS: 8, DEBUG: false, ADMINS: ["a@example.org"], HOSTS: ["staging.example.org", "localhost"] });
  assert.is(model.hosts[0]?.fqdn, "web.staging.example.org");
  assert.equal(
    model.variables.map((v) => [v.name, v.origin && `${v.origin.file}:${v.origin.start.line}`, v.uses.length]),
    [
      ["domain", "stacks/shop.staging.yaml:1", 2],
      ["workers", undefined, 1],
      ["debug", "stacks/test.yaml:5", 1],
      ["admins", "stacks/shop.staging.yaml:1", 1],
    ],
  );
});

test("a stack may be called otherwise in an environment, so that both can be there", () => {
  assert.is(modelWith("stack: shop-staging\nvars: { admins: [] }\n").name, "shop-staging");
  assert.is(modelWith(undefined, { admins: "[]" }).name, "shop");
});

test("a text stays the text that was given, whatever it looks like; other types are read as YAML", () => {
  const model = modelWith(undefined, { domain: "1.20", debug: "true", admins: "[a, b]" });
  assert.equal([model.hosts[0]?.domain, envOf(model).DEBUG, envOf(model).ADMINS], ["1.20", true, ["a", "b"]]);
});

test("what does not fit is said where it stands", () => {
  assert.equal(
    wrong(() => modelWith(undefined)),
    ["stacks/test.yaml:6 ING1207 the variable admins has no value"],
  );
  assert.equal(
    wrong(() => modelWith("vars:\n  admins: ops\n  workers: many\n  doman: x\nhosts: {}\n")),
    [
      "stacks/shop.staging.yaml:2 ING1207 the variable admins is a list",
      "stacks/shop.staging.yaml:3 ING1207 the variable workers is a number",
      "stacks/shop.staging.yaml:4 ING1202 stacks/test.yaml has no variable `doman`",
      "stacks/shop.staging.yaml:5 ING1208 unknown key `hosts` in an environment's file",
    ],
  );
  assert.equal(
    wrong(() => modelWith("vars: [a]\n", { admins: "[]" })),
    ["stacks/shop.staging.yaml:1 ING1208 `vars:` is a map: name → value"],
  );
  assert.match(wrong(() => modelWith(undefined, { admins: "ops" })).join(), /admins is a list, and `ops` is none/);
  assert.match(wrong(() => modelWith(undefined, { admins: "[]", wrokers: "1" })).join(), /no variable `wrokers`/);
});

test("the command line: --env, --set and explain", () => {
  const folder = mkdtempSync(join(tmpdir(), "ingot-variables-"));
  try {
    for (const part of ["images", "stacks"]) mkdirSync(join(folder, part));
    writeFileSync(join(folder, "stacks/shop.yaml"), text.replace("image: debian-12", "image: small"));
    writeFileSync(join(folder, "stacks/shop.staging.yaml"), "stack: shop-staging\nvars: { domain: staging.example.org, admins: [ops] }\n");
    writeFileSync(
      join(folder, "images/small.yaml"),
      "image: small\ndistro: debian\nrelease: bookworm\narchitecture: amd64\narchives:\n  main: { mirror: http://deb.debian.org/debian, suites: [bookworm], components: [main] }\npackages: [openssh-server]\n",
    );
    const ingot = (...args: string[]) =>
      spawnSync(process.execPath, [join(toolFolder, "dist/ingot.js"), ...args], { cwd: folder, encoding: "utf8" });
    const all = ingot("explain", "shop", "--env", "staging", "--set", "workers=9", "--json");
    const { stack, variables } = JSON.parse(all.stdout) as { stack: string; variables: { name: string; value: unknown; from: string }[] };
    assert.is(stack, "shop-staging", all.stderr);
    assert.equal(
      variables.map((v) => [v.name, v.value, v.from]),
      [
        ["domain", "staging.example.org", "stacks/shop.staging.yaml:2:17"],
        ["workers", 9, "the command line"],
        ["debug", false, "stacks/shop.yaml:5:21"],
        ["admins", ["ops"], "stacks/shop.staging.yaml:2:46"],
      ],
    );
    const one = ingot("explain", "shop/web", "services.shop.env.HOSTS", "--env=staging").stdout;
    assert.match(
      one,
      /hosts\.web\.services\.shop\.env\.HOSTS = \["staging\.example\.org","localhost"\]\n {2}from stacks\/shop\.yaml:17:\d+\n {2}.*its variable domain +staging\.example\.org +from stacks\/shop\.staging\.yaml:2:17/,
    );
    assert.match(
      ingot("explain", "shop/web", "services.shop.ev", "--env", "staging").stderr,
      /says nothing of hosts\.web\.services\.shop\.ev\n.*did you mean `env`/,
    );
    assert.match(ingot("validate", "shop", "--env", "stagign").stderr, /no environment `stagign`.*\n.*there are: staging/);
    assert.match(ingot("validate", "shop").stderr, /ING1207: the variable admins has no value/);
    assert.is(ingot("validate", "shop", "--set", "admins=[ops]").status, 0);
    assert.match(ingot("validate", "shop", "--set", "admins").stderr, /sets nothing/);
    const environment = ingot("validate", "stacks/shop.staging.yaml");
    assert.equal([environment.status, environment.stdout], [0, "stacks/shop.staging.yaml: fine\n"], environment.stderr);
    assert.match(ingot("validate").stderr, /ING1207: the variable admins has no value[\s\S]*1 error\n$/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
