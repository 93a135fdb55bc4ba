// The pages for the day without Ingot: every command of them is shell, everything that a host is made of is in them, and no secret is.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { StackPlan } from "../../../cloud-init/plan.ts";
import { toolFolder } from "../../../lib/paths.ts";
import { asHtml, asMarkdown, type Block, commandsOf, runbookOf } from "../../../stacks/recovery/runbook.ts";
import { golden } from "../../cloud-init/fixtures.ts";
import { suite } from "../../suite.ts";
import { files, planOfText } from "../aws/synth/fixtures.ts";

const test = suite("runbook");
const known = { distro: "debian", release: "bookworm", packages: { nginx: "1.22.1-9" } } as const;
const pagesOf = (plan: StackPlan): Block[] => runbookOf(plan, new Map(plan.hosts.map((h) => [h.host, known])));
/** Digests are made alike: a golden file speaks of this room only. */
const planOf = (file: string): StackPlan => {
  const plan = planOfText(readFileSync(file, "utf8"));
  const alike = { digest: "0".repeat(64) };
  return { ...plan, hosts: plan.hosts.map((h) => ({ ...h, image: { ...h.image, ...alike }, generation: { ...h.generation, ...alike } })) };
};
const codes = (blocks: Block[]): string[] => blocks.flatMap((b) => ("code" in b ? [b.code] : []));

test("of a host with backups it is what golden/kept.md says", () => {
  const pages = pagesOf(planOf(join(toolFolder, "tests/e2e/kept.yaml")));
  golden(join(toolFolder, "tests/stacks/recovery/golden/kept.md"), asMarkdown(pages));
});

test("backups in a bucket are found by their names there, with keys that are not written down", () => {
  const pages = pagesOf(
    planOfText(`stack: shop
hosts:
  db:
    image: inloop
    postgresql: {}
    directories: { /srv/media: {} }
    backup:
      to: { s3: { bucket: shop-backups, endpoint: "https://objects.example.org:9000", ca: /etc/ca.crt, access_key: { secret: access }, secret_key: { secret: hidden } } }
      postgresql: {}
      directories: [/srv/media]
`),
  );
  const text = codes(pages).join("\n");
  assert.is(spawnSync("bash", ["-n"], { input: text }).status, 0);
  assert.match(text, /^export AWS_ACCESS_KEY_ID='<secret access>' AWS_SECRET_ACCESS_KEY='<secret hidden>'/m);
  assert.match(
    text,
    /^RESTIC_REPOSITORY=s3:https:\/\/objects\.example\.org:9000\/shop-backups\/shop\/db\/files .* restic -o s3\.region=us-east-1 -o s3\.bucket-lookup=path --cacert \/etc\/ca\.crt restore latest --tag directories --target \/$/m,
  );
  assert.match(text, /^repo1-s3-key=<secret access>$/m);
});

for (const [name, file] of Object.entries(files))
  test(`of ${name} each command can be read by a shell, and each step and file is there`, () => {
    const plan = planOf(file);
    const pages = pagesOf(plan);
    for (const code of codes(pages)) {
      const { status, stderr } = spawnSync("bash", ["-n"], { input: code, encoding: "utf8" });
      assert.is(status, 0, `${stderr}\n${code}`);
    }
    const text = codes(pages).join("\n");
    for (const host of plan.hosts) {
      for (const step of host.generation.steps)
        if (commandsOf(step, host).length)
          assert.ok(
            pages.some((b) => "text" in b && b.text === step.id),
            step.id,
          );
      for (const { path, content } of host.generation.files) assert.ok(text.includes(content.replace(/\n$/, "")), `${path} is not in it`);
    }
  });

test("a step comes after those that it needs", () => {
  const plan = planOf(files.inloop);
  const order = pagesOf(plan).flatMap((b) => ("text" in b ? [b.text] : []));
  const at = (id: string) => order.indexOf(id);
  for (const host of plan.hosts)
    for (const { id, after } of host.generation.steps)
      for (const other of after) if (at(id) >= 0 && at(other) >= 0) assert.ok(at(other) < at(id), `${other} before ${id}`);
});

test("where a secret is wanted its name stands, in a command as in a file", () => {
  const text = asMarkdown(pagesOf(planOf(files.inloop)));
  assert.match(text, /SECRET_KEY=<secret django>/);
  assert.match(text, /DATABASE_URL=postgres:\/\/inloop:<secret web\/role\/inloop\/password> \(percent-encoded\)@/);
});

test("as HTML it is one page with nothing from elsewhere, in which nothing of a file is taken for HTML", () => {
  const page = asHtml(pagesOf(planOf(files.inloop)), "inloop");
  assert.not.match(page, /<(script|link|img|iframe)\b/);
  assert.match(page, /&lt;secret django&gt;/);
  assert.is((page.match(/<pre>/g) ?? []).length, (page.match(/<\/pre>/g) ?? []).length);
});

test.run();
