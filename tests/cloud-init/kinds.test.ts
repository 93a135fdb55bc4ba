// Every kind: its schema says what each key is for, its examples compile, and what they become is held in golden/<kind>.json.
import { existsSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { kinds } from "../../cloud-init/resources/index.ts";
import { nameSchema, stackSchema } from "../../cloud-init/schema.ts";
import type { Schema } from "../../lib/schema.ts";
import { suite } from "../suite.ts";
import { golden, here, modelOfText, planOf, stackWith } from "./fixtures.ts";

const test = suite("kinds");

/** Every property of a schema by its path. */
const propertiesOf = (schema: Schema, path: string): [string, Schema][] => [
  ...Object.entries(schema.properties ?? {}).flatMap(([key, of]): [string, Schema][] => [
    [`${path}.${key}`, of],
    ...propertiesOf(of, `${path}.${key}`),
  ]),
  ...(schema.additionalProperties ? propertiesOf(schema.additionalProperties, `${path}.*`) : []),
  ...(schema.items ? propertiesOf(schema.items, `${path}[]`) : []),
  ...(schema.anyOf ?? []).flatMap((s, i) => propertiesOf(s, `${path}|${i}`)),
];

for (const kind of kinds) {
  test(`${kind.kind}: every key says what it is for`, () => {
    assert.match(kind.summary, /\.$/);
    assert.equal(
      propertiesOf(kind.schema, kind.key)
        .filter(([, schema]) => !schema.description)
        .map(([path]) => path),
      [],
    );
  });

  test(`${kind.kind}: its examples become what golden/${kind.kind}.json says`, () => {
    assert.ok(kind.examples.length > 0, "no example");
    const plans = kind.examples.map((example) => {
      const text = stackWith(example);
      const [host] = modelOfText(text).hosts;
      assert.ok(
        [...(host?.resources.values() ?? [])].some((r) => r.kind === kind.kind && !r.implied),
        `its example has no ${kind.kind}`,
      );
      const plan = planOf(text);
      // The hostname is on every host: it is shown in its own golden file only.
      const own = <T extends { resource: string }>(all: T[]): T[] =>
        all.filter((x) => kind.kind === "hostname" || x.resource !== "hostname");
      return {
        example,
        wants: own(plan.wants),
        secrets: own(plan.secrets),
        volumes: plan.volumes,
        ports: own(plan.ports),
        localNames: plan.localNames,
        files: Object.fromEntries(own(plan.generation.files).map((f) => [`${f.path} (${f.mode})`, f.content.split("\n")])),
        steps: own(plan.generation.steps),
        ...(plan.cloudConfig && { cloudConfig: plan.cloudConfig }),
        checks: own([...plan.generation.checks, ...plan.checks]),
      };
    });
    golden(join(here, "golden", `${kind.kind}.json`), `${JSON.stringify(plans, null, 1)}\n`);
  });
}

test("a kind has a word and a key of its own, and a file by its word", () => {
  assert.is(new Set(kinds.map((k) => k.kind)).size, kinds.length);
  assert.is(new Set(kinds.map((k) => k.key)).size, kinds.length);
  for (const { kind } of kinds) assert.ok(existsSync(join(here, "../../cloud-init/resources", `${kind}.ts`)), kind);
});

test("what a resource may be called was there when the schema was made", () => {
  const hosts = stackSchema.properties?.hosts?.additionalProperties;
  assert.ok(hosts);
  for (const kind of kinds.filter((k) => k.shape === "many")) {
    assert.ok(!("names" in kind) || kind.names, `${kind.kind} lost its names to a circle of imports`);
    assert.is(hosts?.properties?.[kind.key]?.propertyNames, kind.names ?? nameSchema);
  }
});

test("every reference names a kind that there is", () => {
  const text = JSON.stringify(kinds.map((k) => k.schema));
  const wanted = [...text.matchAll(/"x-ref":\{"kind":"([^"]+)"/g)].map((m) => m[1]);
  assert.ok(wanted.length > 10);
  for (const kind of new Set(wanted))
    assert.ok(
      kinds.some((k) => k.kind === kind),
      `${kind}`,
    );
});

test("an output is documented, and is one that a reference can write", () => {
  const from = /^[a-z][a-z-]*\/.+\.[a-z_.]+$/;
  for (const kind of kinds) {
    for (const example of kind.examples) {
      const [host] = modelOfText(stackWith(example)).hosts;
      for (const resource of host?.resources.values() ?? []) {
        if (!host || resource.kind !== kind.kind) continue;
        for (const [name, output] of Object.entries(kind.outputs?.(resource, host, "127.0.0.1") ?? {})) {
          assert.ok(output.description, `${resource.id}.${name}`);
          assert.match(`${resource.id}${kind.shape === "one" ? "/" : "."}${name}`, from);
        }
      }
    }
  }
});

test.run();
