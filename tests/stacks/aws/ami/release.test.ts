// images/release.yaml: what is wrong in it, what cannot work, and what is done, against moto with another account in it (tests/moto-amis.py).
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { CreateKeyCommand, type KMSClient, PutKeyPolicyCommand } from "@aws-sdk/client-kms";
import { AssumeRoleCommand } from "@aws-sdk/client-sts";
import * as assert from "uvu/assert";
import { loadRelease } from "../../../../images/release.ts";
import { format, InputError } from "../../../../lib/diagnostics.ts";
import { silent } from "../../../../lib/progress.ts";
import { main as validate } from "../../../../scripts/validate.ts";
import { findAmis } from "../../../../stacks/aws/ami/ami.ts";
import { historyOf } from "../../../../stacks/aws/ami/channel.ts";
import type { Cell } from "../../../../stacks/aws/ami/release.ts";
import { sharedWith } from "../../../../stacks/aws/ami/share.ts";
import { type Aws, awsOf, type Credentials } from "../../../../stacks/aws/api.ts";
import { faultyProxy } from "../../../faults.ts";
import { type Moto, motoAmis, region, startMoto } from "../../../moto.ts";
import { suite } from "../../../suite.ts";
import { callsOf, changesNothing, registerAmi, TestProject } from "./account.ts";

const test = suite("release of AMIs");
const one = motoAmis() ? test : test.skip;
const own = "123456789012";
const other = "210987654321";
const role = `arn:aws:iam::${other}:role/ingot-images`;
const project = new TestProject();
const file = join(project.project.images, "../release.yaml");
let moto: Moto;
let aws: Aws;

const write = (text: string): void => writeFileSync(file, text);
const twoPlaces = `recipes: [debian-12, inloop]
from: ${region}
regions: [${region}, eu-west-1]
channel: candidate
accounts:
  "${own}": {}
  "${other}": { role: ingot-images }
`;

/** The role in the other account, which only that account could make. */
async function makeRole(): Promise<void> {
  const trust = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Principal: { AWS: own }, Action: "sts:AssumeRole" }] };
  const parameters = {
    Action: "CreateRole",
    Version: "2010-05-08",
    RoleName: "ingot-images",
    AssumeRolePolicyDocument: JSON.stringify(trust),
  };
  const { ok } = await fetch(moto.endpoint, {
    method: "POST",
    headers: {
      authorization: "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0",
      "content-type": "application/x-www-form-urlencoded",
      "x-moto-account-id": other,
    },
    body: new URLSearchParams(parameters).toString(),
  });
  assert.ok(ok);
}
const there: Credentials = async () => {
  const { Credentials: given } = await (await aws.sts()).send(new AssumeRoleCommand({ RoleArn: role, RoleSessionName: "test" }));
  return { accessKeyId: given?.AccessKeyId ?? "", secretAccessKey: given?.SecretAccessKey ?? "", sessionToken: given?.SessionToken };
};

/** Of each place: how many AMIs, and what the channel of each recipe names. */
async function placed(): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  for (const [account, credentials] of [
    [own, undefined],
    [other, there],
  ] as const)
    for (const where of [region, "eu-west-1"]) {
      const at = await awsOf(where, credentials);
      const amis = await findAmis(at);
      const named = await Promise.all(
        ["debian-12", "inloop"].map(async (recipe) => {
          const [entry] = await historyOf(at, recipe, "candidate");
          return entry && amis.find((a) => a.id === entry.ami)?.recipe;
        }),
      );
      found[`${account} ${where}`] = [amis.map((a) => a.recipe).sort(), named];
    }
  return found;
}
const everywhere = Object.fromEntries(
  [own, other].flatMap((account) =>
    [region, "eu-west-1"].map((where) => [
      `${account} ${where}`,
      [
        ["debian-12", "inloop"],
        ["debian-12", "inloop"],
      ],
    ]),
  ),
);

const released = async (...args: string[]): Promise<{ code: number; cells: Cell[] }> => {
  const { code, out } = await project.image("release", file, ...args, "--json");
  return { code, cells: (JSON.parse(out) as { cells: Cell[] }).cells };
};

test.before(async () => {
  if (!motoAmis()) return;
  moto = await startMoto(motoAmis());
  aws = await awsOf(undefined);
});
test.before.each(async () => {
  if (!motoAmis()) return;
  await moto.reset();
  await makeRole();
  for (const name of ["debian-12", "inloop"]) await registerAmi(aws, { name, digest: project.digest(name) });
});
test.after(async () => {
  project.remove();
  await moto?.stop();
});

test("what is wrong in the file is said at its line, all at once", () => {
  write(`recipes: [debain-12, inloop, inloop]
regions: [eu-west-1, eu-west-1]
key: { eu-wset-1: alias/images }
accounts:
  "${own}": {}
  "${other}": { regions: [eu-central-1], key: { eu-central-2: alias/images } }
`);
  const said = (): string => {
    try {
      loadRelease(project.project, file);
    } catch (error) {
      assert.instance(error, InputError);
      const { diagnostics, sources } = error as InputError;
      return diagnostics
        .map(
          (d) =>
            format(d, sources)
              .split("\n")[0]
              ?.replace(/^.*release.yaml:/, "") + (d.hint ? ` (${d.hint})` : ""),
        )
        .join("\n");
    }
    return "";
  };
  assert.is(
    said(),
    `1:11 error ING1713: there is no recipe \`debain-12\` (did you mean \`debian-12\`?)
1:30 error ING1714: \`inloop\` stands in the list a second time
2:22 error ING1714: \`eu-west-1\` stands in the list a second time
6:53 error ING1716: a key is given for eu-central-2, and nothing is released there (did you mean \`eu-central-1\`?)
3:8 error ING1716: a key is given for eu-wset-1, and nothing is released there (did you mean \`eu-west-1\`?)`,
  );
  write(`recipes: [inloop]\naccounts:\n  "${own}": {}\n  12: { chanel: stable }\n`);
  assert.match(said(), /`12` cannot be a name in accounts: it must be an account's number: 12 digits, in quotes when it begins with 0/);
  assert.match(said(), /unknown key `chanel`.*did you mean `channel`\?/);
  write(`recipes: [inloop]\naccounts:\n  "${own}": {}\n`);
  assert.match(said(), /3:3 error ING1715: nothing says which regions of 123456789012 are meant/);
});

test("`ingot validate` knows the file", async () => {
  const out: string[] = [];
  const io = { json: true, on: "aws" as const, project: project.project, progress: silent, print: (text: string) => void out.push(text) };
  write(twoPlaces);
  assert.is(await validate([file], io), 0, out.join());
  write(twoPlaces.replace("inloop", "inlop"));
  assert.is(await validate([file], io), 2);
  const { diagnostics } = JSON.parse(out[1] ?? "") as { diagnostics: { code: string; fix: { text: string } }[] };
  assert.equal(
    diagnostics.map((d) => [d.code, d.fix.text]),
    [["ING1713", "inloop"]],
  );
});

one("--dry-run says what would be, and changes nothing", async () => {
  write(twoPlaces);
  const { code, out } = await changesNothing(moto.endpoint, () => project.image("release", file, "--dry-run"));
  assert.is(code, 0, out);
  const rows = out.split("\n").map((l) =>
    l
      .split(/ {2,}/)
      .slice(0, 6)
      .map((c) => c.replace(/^ami-.*/, "ami")),
  );
  assert.equal(rows, [
    ["recipe", "account", "region", "AMI", "state", "channel"],
    ...["debian-12", "inloop"].flatMap((recipe) => [
      [recipe, own, region, "ami", "source", "candidate"],
      [recipe, own, "eu-west-1", "-", "would be copied", "candidate"],
      [recipe, other, region, "-", "would be copied", "candidate"],
      [recipe, other, "eu-west-1", "-", "would be copied", "candidate"],
    ]),
  ]);
});

one("every recipe in every account and region, named by its channel; a second run finds all of it and changes nothing", async () => {
  write(twoPlaces);
  const first = await released();
  assert.is(first.code, 0, JSON.stringify(first.cells));
  assert.equal(
    first.cells.map((c) => c.state),
    ["source", "copied", "copied", "copied", "source", "copied", "copied", "copied"],
  );
  assert.equal(await placed(), everywhere);
  const again = await changesNothing(moto.endpoint, () => released());
  assert.equal(
    again.cells.map((c) => [c.ami, c.state, c.channel]),
    first.cells.map((c) => [c.ami, c.state === "copied" ? "there" : c.state, "candidate already"]),
  );
});

one("what is missing is brought by the next run, and nothing else", async () => {
  write(twoPlaces);
  await released();
  const at = await awsOf("eu-west-1", there);
  const [gone] = await findAmis(at, { recipe: "inloop" });
  const { DeregisterImageCommand } = await import("@aws-sdk/client-ec2");
  await (await at.ec2()).send(new DeregisterImageCommand({ ImageId: gone?.id }));
  // moto keeps the name of a copy's token; EC2 forgets it with the AMI.
  const { result, calls } = await callsOf(moto.endpoint, () => released());
  assert.equal(
    result.cells.filter((c) => c.state === "copied").map((c) => [c.recipe, c.account, c.region]),
    [["inloop", other, "eu-west-1"]],
  );
  assert.equal(calls.filter((c) => /^(Copy|Put|Modify|Register|Create)/.test(c)).sort(), ["CopyImage", "PutParameter"]);
  assert.equal(await placed(), everywhere);
});

one("what cannot work is refused before anything is begun, each at its place", async () => {
  const refusal = async (text: string): Promise<string[]> => {
    write(`recipes: [debian-12]\nfrom: ${region}\nregions: [${region}]\naccounts:\n${text}\n`);
    const { code, cells } = await changesNothing(moto.endpoint, () => released());
    assert.is(code, 1);
    assert.ok(cells.every((c) => c.state === "refused" || c.state === "not tried"));
    return cells.flatMap((c) => (c.error === undefined ? [] : `${c.error}; ${c.hint}`));
  };
  const only = async (text: string, words: RegExp): Promise<void> => {
    const [error, ...more] = await refusal(text);
    assert.match(error ?? "", words);
    assert.is(more.length, 0);
  };
  await only(
    `  "${other}": {}\n  "${own}": {}`,
    /no role is given for the account 210987654321, and these credentials are of 123456789012; .*trusts arn:/,
  );
  await only(
    `  "${other}": { role: nobody }`,
    /could not assume the role arn:aws:iam::210987654321:role\/nobody: .* may not do sts:AssumeRole/,
  );
  await only(`  "${other}": { role: "arn:aws:iam::${own}:role/mine" }`, /is not one of the account 210987654321/);
  await only(`  "${own}": { regions: [ap-east-1] }`, /the region ap-east-1 is not enabled for the account 123456789012/);
  await only(`  "${own}": { regions: [eu-west-1], key: alias/none }`, /there is no key alias\/none in eu-west-1/);
  const kms: KMSClient = await aws.kms();
  const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
  await moto.reset();
  await makeRole();
  const key = (await kms.send(new CreateKeyCommand({}))).KeyMetadata?.Arn ?? KeyMetadata?.Arn ?? "";
  await registerAmi(aws, { name: "debian-12", digest: project.digest("debian-12") }, { kmsKey: key });
  await only(`  "${other}": { role: ingot-images }`, /cannot be shared: 210987654321 may not use the key .* it lacks kms:DescribeKey/);
  const statement = { Effect: "Allow", Principal: { AWS: `arn:aws:iam::${other}:root` }, Action: "kms:*", Resource: "*" };
  const Policy = JSON.stringify({ Version: "2012-10-17", Statement: [statement] });
  await kms.send(new PutKeyPolicyCommand({ KeyId: key, PolicyName: "default", Policy }));
  assert.is((await released()).code, 0);
});

one("each with its own key: encrypted in each account with a key of that account", async () => {
  const keyOf = async (at: Aws) => (await (await at.kms()).send(new CreateKeyCommand({}))).KeyMetadata?.Arn ?? "";
  const [mine, theirs] = [await keyOf(await awsOf("eu-west-1")), await keyOf(await awsOf("eu-west-1", there))];
  write(`recipes: [debian-12]
from: ${region}
regions: [eu-west-1]
accounts:
  "${own}": { key: { eu-west-1: "${mine}" } }
  "${other}": { role: "${role}", key: "${theirs}", channel: candidate }
`);
  const { code, cells } = await released();
  assert.is(code, 0, JSON.stringify(cells));
  const { keysOf } = await import("../../../../stacks/aws/ami/key.ts");
  for (const [credentials, key] of [
    [undefined, mine],
    [there, theirs],
  ] as const) {
    const at = await awsOf("eu-west-1", credentials);
    const [copy] = await findAmis(at);
    assert.equal(copy && (await keysOf(at, copy)), [key]);
  }
  const [source] = await findAmis(aws, { recipe: "debian-12" });
  assert.equal((await sharedWith(aws, { id: source?.id ?? "" })).accounts, [other]);
});

/** One recipe in one region of both accounts: as few calls as show each kind. */
const few = `recipes: [debian-12]
from: ${region}
regions: [eu-west-1]
channel: candidate
accounts:
  "${own}": {}
  "${other}": { role: ingot-images }
`;
async function afresh(): Promise<void> {
  await moto.reset();
  await makeRole();
  await registerAmi(aws, { name: "debian-12", digest: project.digest("debian-12") });
}
/** Both copies are there, once, and named. */
async function fewPlaced(what: string): Promise<void> {
  for (const credentials of [undefined, there]) {
    const at = await awsOf("eu-west-1", credentials);
    const amis = await findAmis(at);
    assert.is(amis.length, 1, what);
    assert.is((await historyOf(at, "debian-12", "candidate"))[0]?.ami, amis[0]?.id, what);
  }
}

one(
  "each call refused in turn: the place fails in words and the other goes on, or nothing was begun; the next run has all of it, once",
  async () => {
    write(few);
    await afresh();
    const { calls } = await callsOf(moto.endpoint, () => released());
    const step = process.env.INGOT_TEST_LONG ? 1 : Math.ceil(calls.length / 6);
    for (let call = 1; call <= calls.length; call += step) {
      await afresh();
      const proxy = await faultyProxy(moto.endpoint, call, "denied");
      process.env.AWS_ENDPOINT_URL = proxy.endpoint;
      let said: string;
      try {
        const { code, cells } = await released();
        assert.is(code, 1, `call ${call}`);
        said = cells.flatMap((c) => c.error ?? []).join("\n");
      } catch (error) {
        said = error instanceof Error ? error.message : "";
      } finally {
        process.env.AWS_ENDPOINT_URL = moto.endpoint;
        proxy.stop();
      }
      assert.match(said, /could not .* may not do some:Action/, `call ${call}`);
      const { code, cells } = await released();
      assert.is(code, 0, `call ${call}: ${JSON.stringify(cells)}`);
      await fewPlaced(`call ${call}`);
    }
  },
);

one("an answer that gets lost is asked for again, and no AMI is made twice", async () => {
  write(few);
  await afresh();
  const { calls } = await callsOf(moto.endpoint, () => released());
  const changing = calls.flatMap((c, i) => (/^(CopyImage|PutParameter|Modify\w+)$/.test(c) ? [i + 1] : []));
  assert.is(changing.length, 6, calls.join());
  for (const call of process.env.INGOT_TEST_LONG ? changing : changing.filter((_, i) => i >= 2 && i % 2 === 0)) {
    await afresh();
    const proxy = await faultyProxy(moto.endpoint, call, "lost");
    process.env.AWS_ENDPOINT_URL = proxy.endpoint;
    try {
      const { code, cells } = await released();
      assert.is(code, 0, `call ${call}: ${JSON.stringify(cells)}`);
    } finally {
      process.env.AWS_ENDPOINT_URL = moto.endpoint;
      proxy.stop();
    }
    await fewPlaced(`call ${call}`);
  }
});

test.run();
