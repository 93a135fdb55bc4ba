// Files whose languages can quote little or nothing (aliases, pg_hba.conf): whatever somebody calls a thing, it is refused with its line, or the file
// says exactly that and nothing more.
import fc from "fast-check";
import { dump } from "js-yaml";
import * as assert from "uvu/assert";
import type { HostPlan } from "../../cloud-init/plan.ts";
import { InputError } from "../../lib/diagnostics.ts";
import { suite } from "../suite.ts";
import { planOf } from "./fixtures.ts";

const test = suite("boundaries");

const awkward = fc.oneof(
  fc.constantFrom(
    "a b",
    "a\nb",
    '"|/bin/sh"',
    "|sh",
    "$HOME",
    "%h",
    "a;b",
    "a\\",
    "'",
    "-x",
    "ä",
    "all",
    "postgres",
    "#a",
    "a,b",
    "a:b",
    "@x",
    "+a",
  ),
  fc.string({ minLength: 1, maxLength: 8, unit: "binary" }),
  fc.stringMatching(/^[a-z0-9._ "|#,@-]{1,8}$/),
  fc.stringMatching(/^[a-z][a-z0-9_]{1,8}$/),
  fc.stringMatching(/^[a-z][a-z0-9_]{1,8}$/),
  fc.stringMatching(/^[a-z][a-z0-9_.-]{0,8}$/),
);

/** The plan of a host, or undefined where it is refused at a line of its stack. */
function plannedOf(host: object): HostPlan | undefined {
  try {
    return planOf(
      dump({
        stack: "test",
        network: "10.1.1.0/24",
        hosts: { web: { image: "patchwork", domain: "example.org", address: "10.1.1.2", ...host } },
      }),
    );
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    for (const d of error.diagnostics) assert.ok(d.code.startsWith("ING") && d.range.start.line > 0, JSON.stringify(d));
    return undefined;
  }
}
const fileOf = (plan: HostPlan, path: string): string => plan.generation.files.find((f) => f.path === path)?.content ?? "";

test("aliases", () => {
  let taken = 0;
  fc.assert(
    fc.property(awkward, awkward, fc.boolean(), (name, other, program) => {
      const alias = program ? { deliver: other } : { to: [`${other}@example.net`] };
      const deliveries = program ? { deliveries: { [other]: { user: "clerk", command: "cat" } } } : {};
      const plan = plannedOf({ users: { clerk: { system: true } }, ...deliveries, mail: { aliases: { [name]: alias } } });
      if (!plan) return;
      taken++;
      const to = program ? `"|/usr/lib/ingot/deliver ${other}"` : `${other}@example.net`;
      assert.is(fileOf(plan, "/etc/postfix/ingot-aliases"), `${name} ${to}\n`);
      for (const word of [name, other])
        assert.match(word, /^[A-Za-z0-9_+][A-Za-z0-9.!$%&*+/=?^_{}~-]*$/, "it means something else to Postfix");
    }),
    { numRuns: 300 },
  );
  assert.ok(taken > 10, `${taken} were taken`);
});

test("pg_hba.conf and pg_ident.conf", () => {
  let taken = 0;
  fc.assert(
    fc.property(awkward, awkward, fc.oneof(awkward, fc.constant("10.1.1.0/24")), (role, database, from) => {
      const plan = plannedOf({
        users: { clerk: { system: true } },
        roles: { [role]: {} },
        databases: { [database]: { owner: role } },
        postgresql: { listen: "private", allow: [{ database, role, from }], peers: [{ user: "clerk", role }] },
      });
      if (!plan) return;
      taken++;
      for (const name of [role, database]) assert.not.match(name, /["\n\0]/, "a quote that ends the name");
      const hba = fileOf(plan, "/etc/ingot/postgresql/pg_hba.conf").trimEnd().split("\n");
      assert.is(hba.at(-1), `host "${database}" "${role}" ${from} scram-sha-256`);
      assert.is(hba.length, 5);
      assert.is(fileOf(plan, "/etc/ingot/postgresql/pg_ident.conf"), `ingot "clerk" "${role}"\ningot "${role}" "${role}"\n`);
    }),
    { numRuns: 300 },
  );
  assert.ok(taken > 10, `${taken} were taken`);
});

test.run();
