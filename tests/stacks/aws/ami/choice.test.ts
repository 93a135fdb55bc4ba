// What is decided without an account: which AMIs go, and whom a key's policy and grants let use it.
import fc from "fast-check";
import * as assert from "uvu/assert";
import type { Ami } from "../../../../stacks/aws/ami/ami.ts";
import { before, type ChannelEntry } from "../../../../stacks/aws/ami/channel.ts";
import { momentOf } from "../../../../stacks/aws/ami/deprecate.ts";
import { lacking } from "../../../../stacks/aws/ami/key.ts";
import { choose } from "../../../../stacks/aws/ami/prune.ts";
import type { Use } from "../../../../stacks/aws/ami/uses.ts";
import { suite } from "../../../suite.ts";

const test = suite("choices about AMIs");

const ami = (id: string, recipe: string, created: number, state: string): Ami => ({
  ...{ id, region: "eu-central-1", owner: "123456789012", name: id, recipe, digest: id, way: "direct", state, architecture: "x86_64" },
  created: new Date(created * 60_000).toISOString(),
  ...{ rootDevice: "/dev/xvda", snapshots: [], encrypted: false, tags: {} },
});

/** An account with up to 20 AMIs, some used, some shared. */
const accounts = fc
  .array(
    fc.record({
      recipe: fc.constantFrom("debian-12", "inloop", ""),
      created: fc.integer({ min: 0, max: 9 }),
      state: fc.constantFrom("available", "available", "available", "pending", "failed"),
      use: fc.constantFrom<Use["how"] | undefined>(undefined, undefined, "uses", "could"),
      shared: fc.constantFrom(false, false, true),
    }),
    { maxLength: 20 },
  )
  .map((all) => all.map((a, i) => ({ ...a, id: `ami-${i}` })));
type Account = { id: string; recipe: string; created: number; state: string; use?: Use["how"]; shared: boolean }[];
const decide = (account: Account, named: string[] | "unused", keep: number) =>
  choose(
    account.map((a) => ami(a.id, a.recipe, a.created, a.state)),
    named,
    new Map(account.flatMap((a) => (a.use ? [[a.id, [{ words: "somebody", how: a.use }]] as const] : []))),
    new Map(account.flatMap((a) => (a.shared ? [[a.id, "210987654321"] as const] : []))),
    keep,
  );

test("what is used, shared, being made or among the newest never goes, and all else does", () => {
  fc.assert(
    fc.property(accounts, fc.integer({ min: 0, max: 4 }), (account, keep) => {
      const fates = new Map(decide(account, "unused", keep).map((f) => [f.ami.id, f.kept]));
      assert.is(fates.size, account.length);
      for (const a of account) {
        const goes = fates.get(a.id)?.length === 0;
        const younger = account.filter((b) => b.recipe === a.recipe && b.state === "available" && b.created > a.created).length;
        const asOld = account.filter((b) => b.recipe === a.recipe && b.state === "available" && b.created >= a.created).length;
        if (goes) {
          assert.not.ok(a.use ?? a.shared, a.id);
          assert.is.not(a.state, "pending");
          // Of those of one minute any may be the newer one.
          if (a.state === "available") assert.ok(asOld > keep, a.id);
        } else if (!a.use && !a.shared && a.state !== "pending") assert.ok(a.state === "available" && younger < keep, a.id);
      }
      for (const recipe of new Set(account.map((a) => a.recipe))) {
        const bootable = account.filter((a) => a.recipe === recipe && a.state === "available");
        const left = bootable.filter((a) => (fates.get(a.id)?.length ?? 0) > 0).length;
        assert.ok(left >= Math.min(keep, bootable.length), recipe);
      }
    }),
  );
});

test("of those that are named all go but what is used or being made; others never", () => {
  fc.assert(
    fc.property(accounts, fc.array(fc.integer({ min: 0, max: 19 })), (account, picks) => {
      const named = picks.map((i) => `ami-${i}`);
      for (const { ami, kept } of decide(account, named, 3)) {
        const a = account.find((b) => b.id === ami.id);
        assert.is(kept.length === 0, named.includes(ami.id) && a?.use !== "uses" && a?.state !== "pending", ami.id);
      }
    }),
  );
});

const entry = (version: number, of: string, how = "promoted"): ChannelEntry => ({
  ...{ version, ami: of, who: "arn:aws:iam::1:user/a", when: "", how, current: false },
});

test("a rollback goes back and further back, never forth, and never to what is there", () => {
  const to = (...history: ChannelEntry[]) => before(history.reverse()).map((e) => e.ami);
  assert.equal(to(), []);
  assert.equal(to(entry(1, "a")), []);
  assert.equal(to(entry(1, "a"), entry(2, "b"), entry(3, "c")), ["b", "a"]);
  assert.equal(to(entry(1, "a"), entry(2, "b"), entry(3, "c"), entry(4, "b", "rolled back to version 2")), ["a"]);
  assert.equal(to(entry(1, "a"), entry(2, "b"), entry(3, "a")), ["b"]);
  assert.equal(
    to(entry(1, "a"), entry(2, "b"), entry(3, "c"), entry(4, "b", "rolled back to version 2"), entry(5, "d")),
    ["c", "b", "a"],
    "what was rolled back is what the channel held before, if the next one is worse",
  );
  // SSM has forgotten the first ones.
  assert.equal(to(entry(101, "x"), entry(102, "y")), ["x"]);
});

test("a key's policy and grants: what they give an account or an organisation, and what not", () => {
  const them = "210987654321";
  const all = ["kms:DescribeKey", "kms:CreateGrant", "kms:Decrypt", "kms:ReEncryptFrom"];
  const allow = { Effect: "Allow" as const, Principal: { AWS: `arn:aws:iam::${them}:root` }, Action: "kms:*" };
  const of = (...Statement: Parameters<typeof lacking>[0]["Statement"][]) => lacking({ Statement: Statement.flat() as never }, [], them);
  assert.equal(lacking({}, [], them), all);
  assert.equal(of(allow), []);
  assert.equal(of({ ...allow, Principal: { AWS: [them] } }), []);
  assert.equal(of({ ...allow, Principal: { AWS: "arn:aws:iam::123456789012:root" } }), all);
  assert.equal(of({ ...allow, Action: ["kms:De*", "kms:CREATEGRANT"] }), ["kms:ReEncryptFrom"]);
  assert.equal(of(allow, { ...allow, Effect: "Deny", Action: "kms:CreateGrant" }), ["kms:CreateGrant"]);
  assert.equal(of({ ...allow, Principal: "*", Condition: { StringEquals: { "kms:CallerAccount": them } } }), []);
  assert.equal(of({ ...allow, Principal: "*", Condition: { StringEquals: { "kms:CallerAccount": "123456789012" } } }), all);
  assert.equal(of({ ...allow, Condition: { StringEquals: { "kms:ViaService": "ec2.eu-central-1.amazonaws.com" } } }), []);
  assert.equal(of({ ...allow, Condition: { IpAddress: { "aws:SourceIp": "203.0.113.0/24" } } }), all);
  const grant = { principal: `arn:aws:iam::${them}:role/r`, operations: ["Decrypt", "CreateGrant"] };
  assert.equal(lacking({}, [grant], them), ["kms:DescribeKey", "kms:ReEncryptFrom"]);
  const organisation = "arn:aws:organizations::123456789012:organization/o-abcdefghij";
  const inOrganisation = { ...allow, Principal: "*" as const, Condition: { StringEquals: { "aws:PrincipalOrgID": "o-abcdefghij" } } };
  assert.equal(lacking({ Statement: inOrganisation }, [], organisation), []);
  assert.equal(
    lacking({ Statement: { ...inOrganisation, Condition: { StringEquals: { "aws:PrincipalOrgID": "o-x" } } } }, [], organisation),
    all,
  );
});

test("the minute of a deprecation is one to come", () => {
  const now = Date.parse("2026-11-29T10:00:30Z");
  assert.is(momentOf("now", now).toISOString(), "2026-11-29T10:02:00.000Z");
  assert.is(momentOf("2026-11-29T12:00:01Z", now).toISOString(), "2026-11-29T12:01:00.000Z");
  assert.throws(() => momentOf("soon", now), /`soon` is no date/);
});

test.run();
