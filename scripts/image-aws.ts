// ingot image … --on aws: AMIs, found by what their tags say. image.ts hands over here; its help has these commands, too. All work is done by
// stacks/aws/ami/.
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { imageDigest } from "../images/digest.ts";
import { loadRecipe, recipeNames } from "../images/recipe.ts";
import { InputError, RefusedError, UsageError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import type { Project } from "../lib/paths.ts";
import { type Ami, findAmis } from "../stacks/aws/ami/ami.ts";
import { amiWords, type Channel, channels, channelsIn, isChannel, type Pointed } from "../stacks/aws/ami/channel.ts";
import type { CopyEncryption } from "../stacks/aws/ami/copy.ts";
import { amiCalled, type KnownRecipe } from "../stacks/aws/ami/said.ts";
import { type Aws, awsOf } from "../stacks/aws/api.ts";
import { bucketOf } from "../stacks/aws/bucket.ts";
import { names } from "../stacks/aws/shape.ts";
import { type Io, table } from "./command.ts";

/** What a command of these is given: the region's clients, and what the project knows of images. */
interface Work {
  io: Io;
  aws: Aws;
  given: Options;
  /** `--dry-run`: everything is looked at, and nothing changed. */
  mode: "do" | "plan";
  recipes: KnownRecipe[];
}

interface Options {
  region?: string;
  to: string[];
  kms?: string;
  encrypt: boolean;
  with: string[];
  at?: string;
  undo: boolean;
  keep?: string;
  yes: boolean;
  type?: string;
  subnet?: string;
}

interface Verb {
  /** How many names it takes: from, to. */
  names: [number, number];
  usage: string;
  options: (keyof Options | "dry-run")[];
  run(work: Work, said: string[]): Promise<number>;
}

const verbs: Record<string, Verb> = {
  list: { names: [0, 1], usage: "[<recipe>]", options: [], run: list },
  show: { names: [1, 1], usage: "<image>", options: [], run: show },
  copy: { names: [1, 1], usage: "<image> --to <region>", options: ["to", "kms", "encrypt", "dry-run"], run: copy },
  share: { names: [1, 1], usage: "<image> --with <account>", options: ["with", "undo", "dry-run"], run: share },
  deprecate: { names: [1, 1], usage: "<image>", options: ["at", "undo", "dry-run"], run: deprecate },
  prune: { names: [0, 1000], usage: "[<image> …]", options: ["keep", "yes", "dry-run"], run: prune },
  promote: { names: [2, 2], usage: "<image> <channel>", options: ["type", "subnet", "dry-run"], run: promote },
  rollback: { names: [2, 2], usage: "<recipe> <channel>", options: ["dry-run"], run: rollbackCommand },
  history: { names: [1, 2], usage: "<recipe> [<channel>]", options: [], run: history },
  release: { names: [0, 1], usage: "[<file>]", options: ["type", "subnet", "dry-run"], run: releaseCommand },
};

export async function main(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      region: { type: "string" },
      to: { type: "string", multiple: true },
      kms: { type: "string" },
      encrypt: { type: "boolean" },
      with: { type: "string", multiple: true },
      at: { type: "string" },
      undo: { type: "boolean" },
      keep: { type: "string" },
      yes: { type: "boolean" },
      type: { type: "string" },
      subnet: { type: "string" },
      "dry-run": { type: "boolean" },
    },
  });
  const [name = "", ...said] = positionals;
  const verb = verbs[name];
  if (!verb)
    throw new UsageError(`there is no command \`ingot image ${name} --on aws\``, `${Object.keys(verbs).join(", ")}: ingot image --help`);
  const [least, most] = verb.names;
  if (said.length < least || said.length > most)
    throw new UsageError(`ingot image ${name} --on aws takes ${verb.usage}`, `ingot image ${name} ${verb.usage} --on aws`);
  for (const option of Object.keys(values))
    if (option !== "region" && !(verb.options as string[]).includes(option))
      throw new UsageError(`ingot image ${name} --on aws knows no --${option}`, `ingot image ${name} ${verb.usage} --on aws`);
  const given: Options = {
    ...values,
    to: values.to ?? [],
    with: values.with ?? [],
    encrypt: values.encrypt ?? false,
    undo: values.undo ?? false,
    yes: values.yes ?? false,
  };
  const { placeOf } = await import("../stacks/aws/settings.ts");
  const { region } = placeOf(io.project, values.region);
  const work: Work = { io, aws: await awsOf(region), given, mode: values["dry-run"] ? "plan" : "do", recipes: recipesOf(io.project) };
  return verb.run(work, said);
}

/** A recipe that is wrong has no digest: its AMIs are there all the same. A digest is of fifty files, so it is taken when it is asked for. */
function recipesOf(project: Project): KnownRecipe[] {
  return recipeNames(project).map((name) => {
    let digest: { of: string | undefined } | undefined;
    return {
      name,
      get digest() {
        return (digest ??= { of: digestOf(project, name) }).of;
      },
    };
  });
}

function digestOf(project: Project, name: string): string | undefined {
  try {
    return imageDigest(project, loadRecipe(project, name));
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return undefined;
  }
}

const data = (ami: Ami, more: object = {}) => {
  const { tags, ...rest } = ami;
  return { ...rest, ...(tags[names.tags.smoke] !== undefined && { smoke: tags[names.tags.smoke] }), ...more };
};
const json = ({ io }: Work, value: unknown): void => io.print(JSON.stringify(value, null, 2));
const minutes = (iso: string): string => iso.slice(0, 16).replace("T", " ");

async function list(work: Work, [recipe]: string[]): Promise<number> {
  const { io, aws, recipes } = work;
  const [amis, pointed] = await Promise.all([findAmis(aws, recipe === undefined ? {} : { recipe }), channelsIn(aws)]);
  const rows = amis.map((ami) => ({
    ...data(ami),
    current: recipes.some((r) => r.name === ami.recipe && r.digest === ami.digest),
    channels: pointed.filter((p) => p.ami === ami.id).map((p) => p.channel),
  }));
  if (io.json) {
    json(work, { region: aws.region, amis: rows });
    return 0;
  }
  if (!rows.length) io.print(`no AMI of Ingot's${recipe === undefined ? "" : ` of ${recipe}`} in ${aws.region}`);
  for (const name of [...new Set(rows.map((r) => r.recipe))].sort()) {
    io.print(name || "(no recipe's tag)");
    io.print(
      table(
        rows
          .filter((r) => r.recipe === name)
          .map((r) => [
            `  ${short(r.digest)}`,
            r.id,
            minutes(r.created),
            r.state,
            [
              r.way,
              ...(r.current ? ["current"] : []),
              ...r.channels,
              ...(r.smoke === undefined ? [] : ["booted"]),
              ...(r.encrypted ? ["encrypted"] : []),
              ...(r.deprecated === undefined ? [] : [`deprecated ${r.deprecated.slice(0, 10)}`]),
            ]
              .filter(Boolean)
              .join(", "),
          ]),
      ),
    );
  }
  return 0;
}

async function show(work: Work, [said = ""]: string[]): Promise<number> {
  const { io, aws, recipes } = work;
  const ami = await amiCalled(aws, said, recipes);
  const [{ sharedWith }, { usesOf }, { keysOf }] = await Promise.all([
    import("../stacks/aws/ami/share.ts"),
    import("../stacks/aws/ami/uses.ts"),
    import("../stacks/aws/ami/key.ts"),
  ]);
  const [shared, uses, keys] = await Promise.all([sharedWith(aws, ami), usesOf(aws, [ami], await known(work)), keysOf(aws, ami)]);
  const users = (uses.get(ami.id) ?? []).map((u) => u.words);
  if (io.json) {
    json(work, data(ami, { tags: ami.tags, keys: keys.flatMap((k) => k ?? []), shared, uses: users }));
    return 0;
  }
  const whom = [...(shared.everybody ? ["everybody"] : []), ...shared.accounts, ...shared.organizations, ...shared.units];
  io.print(`${ami.recipe || "(no recipe's tag)"} ${ami.digest}`);
  io.print(
    `  ${ami.id} in ${ami.region}, ${ami.state}, ${ami.architecture}, made ${minutes(ami.created)}${ami.way ? ` (${ami.way})` : ""}`,
  );
  io.print(`  ${ami.snapshots.join(", ")}: ${ami.encrypted ? `encrypted with ${[...new Set(keys)].join(", ")}` : "not encrypted"}`);
  const smoke = ami.tags[names.tags.smoke];
  io.print(`  ${smoke === undefined ? "no instance of it was booted and looked at" : `booted and found right ${minutes(smoke)}`}`);
  if (ami.deprecated !== undefined) io.print(`  deprecated ${minutes(ami.deprecated)}`);
  if (whom.length) io.print(`  shared with ${whom.join(", ")}`);
  for (const words of users) io.print(`  used: ${words}`);
  if (!users.length) io.print("  nobody that can be seen from here uses it");
  return 0;
}

async function known({ io, aws, recipes }: Work) {
  const { bucketsNamed, imagesDeclared } = await import("../stacks/aws/settings.ts");
  const digests = new Map(recipes.flatMap(({ name, digest }) => (digest === undefined ? [] : [[name, digest] as const])));
  const buckets = [...new Set([await bucketOf(aws, undefined), ...bucketsNamed(io.project, aws.region)])];
  return { declared: imagesDeclared(io.project), digests, buckets };
}

async function copy(work: Work, [said = ""]: string[]): Promise<number> {
  const { io, aws, given, mode, recipes } = work;
  if (!given.to.length) throw new UsageError("copy: to which region?", `ingot image copy ${said} --to <region> --on aws`);
  const { copyAmi } = await import("../stacks/aws/ami/copy.ts");
  const { enabledRegions } = await import("../stacks/aws/ami/regions.ts");
  const ami = await amiCalled(aws, said, recipes);
  const regions = [...new Set(given.to)];
  if (regions.includes(aws.region)) throw new RefusedError(`${ami.id} is in ${aws.region}`, "name another region: --to <region>");
  await enabledRegions(aws, regions);
  const encryption: CopyEncryption = given.kms !== undefined ? { key: given.kms } : given.encrypt ? "default" : "as it is";
  // All that can be refused is looked at before the first one is begun.
  const targets = await Promise.all(regions.map((region) => awsOf(region)));
  const planned = await Promise.all(targets.map((to) => copyAmi(aws, ami, to, encryption, "plan", io.progress)));
  const done = mode === "plan" ? planned : await Promise.all(targets.map((to) => copyAmi(aws, ami, to, encryption, "do", io.progress)));
  const rows = done.map((d, i) => ({ region: regions[i] ?? "", outcome: d.outcome, ami: d.ami?.id, seconds: d.seconds }));
  if (io.json) json(work, { image: ami.recipe, digest: ami.digest, from: ami.id, copies: rows });
  else {
    io.print(amiWords(ami));
    io.print(table(rows.map((r) => [`  ${r.region}`, r.outcome === "there" ? "is there already" : r.outcome, r.ami ?? ""])));
  }
  return 0;
}

async function share(work: Work, [said = ""]: string[]): Promise<number> {
  const { io, aws, given, mode, recipes } = work;
  if (!given.with.length) throw new UsageError("share: with whom?", `ingot image share ${said} --with <account> --on aws`);
  const { audienceOf, shareAmi } = await import("../stacks/aws/ami/share.ts");
  const audience = audienceOf(given.with);
  const ami = await amiCalled(aws, said, recipes);
  const shared = await shareAmi(aws, ami, audience, given.undo ? "unshare" : "share", mode);
  if (io.json) json(work, shared);
  else {
    for (const warning of shared.warnings) io.progress.say(`  note: ${warning}`);
    const what = given.undo ? "no longer shared" : "shared";
    if (!shared.changed.length) io.print(`${amiWords(ami)} is ${given.undo ? "not shared with them" : "shared with them already"}`);
    else io.print(`${amiWords(ami)} ${mode === "plan" ? "would be" : "is"} ${what} with ${shared.changed.join(", ")}`);
  }
  return 0;
}

async function deprecate(work: Work, [said = ""]: string[]): Promise<number> {
  const { io, aws, given, mode, recipes } = work;
  if (given.undo && given.at !== undefined) throw new UsageError("deprecate: --at or --undo, not both", "ingot image --help");
  const { deprecateAmi, momentOf } = await import("../stacks/aws/ami/deprecate.ts");
  const at = given.undo ? undefined : momentOf(given.at ?? "now", Date.now());
  const ami = await amiCalled(aws, said, recipes);
  const pointed = (await channelsIn(aws)).filter((p) => p.ami === ami.id);
  for (const { recipe, channel } of at ? pointed : []) io.progress.say(`  note: the channel ${recipe}/${channel} names it`);
  const done = await deprecateAmi(aws, ami, at, mode);
  if (io.json) json(work, done);
  else {
    const state = done.at === undefined ? "not deprecated" : `deprecated from ${minutes(done.at)}`;
    io.print(
      `${amiWords(ami)} ${done.outcome === "would be done" ? "would be" : "is"} ${state}${done.outcome === "already" ? " already" : ""}`,
    );
  }
  return 0;
}

async function prune(work: Work, said: string[]): Promise<number> {
  const { io, aws, given, mode, recipes } = work;
  const keep = Number(given.keep ?? 3);
  if (!/^\d+$/.test(given.keep ?? "3")) throw new UsageError(`--keep takes a number, not \`${given.keep}\``, "--keep 3");
  const [{ forgetBlocks }, { choose, removeAmi }, { sharedOf, usesOf }] = await Promise.all([
    import("../stacks/aws/ami/parent.ts"),
    import("../stacks/aws/ami/prune.ts"),
    import("../stacks/aws/ami/uses.ts"),
  ]);
  const wanted = await Promise.all(said.map((name) => amiCalled(aws, name, recipes)));
  const [amis, project] = await Promise.all([findAmis(aws), known(work)]);
  const [uses, shared] = await Promise.all([usesOf(aws, amis, project), sharedOf(aws, amis)]);
  const fates = choose(amis, said.length ? wanted.map((a) => a.id) : "unused", uses, shared, keep);
  const held = fates.filter((f) => f.kept.length && wanted.some((a) => a.id === f.ami.id));
  const [one] = held;
  if (one)
    throw new RefusedError(
      `${amiWords(one.ami)} is in use: ${one.kept.join("; ")}`,
      "ingot image show <image> --on aws says by whom; what uses it must go first, or use another",
    );
  const go = fates.filter((f) => !f.kept.length);
  const stay = fates.filter((f) => f.kept.length && !said.length);
  for (const { ami } of go)
    if (shared.has(ami.id)) io.progress.say(`  note: ${ami.id} is shared with ${shared.get(ami.id)}: what they launch with it will fail`);
  const remove = given.yes && mode === "do";
  const gone: string[] = [];
  if (remove) {
    for (const { ami } of go) gone.push(...(await removeAmi(aws, ami, io.progress)));
    for (const bucket of project.buckets) await forgetBlocks(aws, bucket, gone);
  }
  if (io.json)
    json(work, {
      region: aws.region,
      [remove ? "removed" : "prunable"]: go.map(({ ami }) => data(ami)),
      ...(remove && { snapshots: gone }),
      kept: stay.map(({ ami, kept }) => data(ami, { why: kept })),
    });
  else {
    for (const { ami, kept } of stay) io.print([`kept ${amiWords(ami)}`, ...kept.map((why) => `  ${why}`)].join("\n"));
    for (const { ami } of go) io.print(`${remove ? "removed" : said.length ? "would be removed:" : "nobody uses"} ${amiWords(ami)}`);
    if (!go.length) io.print(`no AMI in ${aws.region} is without use`);
    else if (!remove) io.print(`\nremove them: ingot image prune ${[...said, "--on aws --yes"].join(" ")}`);
  }
  return 0;
}

const channelCalled = (said: string): Channel => {
  if (isChannel(said)) return said;
  throw new UsageError(`there is no channel \`${said}\``, `${channels.join(" or ")}`);
};

async function promote(work: Work, [said = "", to = ""]: string[]): Promise<number> {
  const { io, aws, mode, recipes } = work;
  const channel = channelCalled(to);
  const { point } = await import("../stacks/aws/ami/channel.ts");
  const ami = await amiCalled(aws, said, recipes);
  const planned = await point(aws, ami, channel, "promoted", "plan");
  const smoke = channel === "stable" && planned.outcome !== "already" ? await smoked(work, ami) : undefined;
  const pointed = mode === "plan" ? planned : await point(aws, ami, channel, "promoted", "do");
  if (io.json) json(work, { ...pointed, ...(smoke && { smoke }) });
  else {
    if (smoke?.passed === undefined && smoke) io.print(`an instance of ${amiWords(ami)} would be booted and looked at first`);
    io.print(pointedWords(ami, channel, pointed));
  }
  return 0;
}

/** Nothing becomes stable that was not seen to boot. */
async function smoked({ io, aws, given, mode }: Work, ami: Ami): Promise<{ passed?: string; instance?: string; seconds?: number }> {
  const [{ passedAt, smokeBoot }, { promisedOf }] = await Promise.all([
    import("../stacks/aws/ami/smoke.ts"),
    import("../images/promised.ts"),
  ]);
  const passed = passedAt(ami);
  if (passed !== undefined) return { passed };
  const promised = promisedOf(io.project, ami.recipe, ami.digest);
  if (mode === "plan") return {};
  const { placeOf } = await import("../stacks/aws/settings.ts");
  const { bucket } = placeOf(io.project, given.region);
  return smokeBoot(aws, ami, promised, { type: given.type, subnet: given.subnet, bucket }, io.progress);
}

function pointedWords(
  ami: Pick<Ami, "recipe" | "digest" | "id">,
  channel: Channel,
  { outcome, from }: Pick<Pointed, "outcome" | "from">,
): string {
  const before = from === undefined ? "" : `, in the place of ${from}`;
  return outcome === "already"
    ? `${ami.recipe}/${channel} is ${amiWords(ami)} already`
    : `${ami.recipe}/${channel} ${outcome === "pointed" ? "is now" : "would become"} ${amiWords(ami)}${before}`;
}

async function rollbackCommand(work: Work, [recipe = "", to = ""]: string[]): Promise<number> {
  const { io, aws, mode } = work;
  const channel = channelCalled(to);
  const { rollback } = await import("../stacks/aws/ami/channel.ts");
  const done = await rollback(aws, recipe, channel, mode);
  for (const { ami, version } of done.skipped) io.progress.say(`  note: ${ami}, version ${version}, is gone`);
  if (io.json) json(work, done);
  else io.print(pointedWords({ recipe, id: done.ami, digest: done.digest }, channel, done));
  return 0;
}

async function history(work: Work, [recipe = "", only]: string[]): Promise<number> {
  const { io, aws } = work;
  const { historyOf } = await import("../stacks/aws/ami/channel.ts");
  const wanted = only === undefined ? channels : [channelCalled(only)];
  const found = await Promise.all(wanted.map(async (channel) => ({ channel, entries: await historyOf(aws, recipe, channel) })));
  if (found.every((f) => !f.entries.length))
    throw new RefusedError(
      `there is no channel ${recipe}/${only ?? channels.join(` and no ${recipe}/`)} in ${aws.region}`,
      "ingot image promote <image> <channel> --on aws makes one",
    );
  if (io.json) json(work, Object.fromEntries(found.map((f) => [f.channel, f.entries])));
  else
    for (const { channel, entries } of found.filter((f) => f.entries.length)) {
      io.print(`${recipe}/${channel}`);
      io.print(
        table(
          entries.map((e) => [
            `  ${e.version}`,
            minutes(e.when),
            e.digest ? short(e.digest) : "",
            e.ami,
            e.how,
            `by ${e.who}`,
            e.current ? "now" : "",
          ]),
        ),
      );
    }
  return 0;
}

async function releaseCommand(work: Work, [file]: string[]): Promise<number> {
  const { io, given, mode, recipes } = work;
  const [{ loadRelease }, { release }, { promisedOf }] = await Promise.all([
    import("../images/release.ts"),
    import("../stacks/aws/ami/release.ts"),
    import("../images/promised.ts"),
  ]);
  const wanted = loadRelease(io.project, ...(file === undefined ? [] : [resolve(file)]));
  const aws = wanted.from === undefined || given.region !== undefined ? work.aws : await awsOf(wanted.from);
  const amis = await Promise.all(wanted.recipes.map((name) => amiCalled(aws, name, recipes)));
  const promised = (ami: Ami) => promisedOf(io.project, ami.recipe, ami.digest);
  const cells = await release(aws, amis, wanted.places, promised, { type: given.type, subnet: given.subnet }, mode, io.progress);
  const wrong = cells.filter((c) => c.error !== undefined);
  if (io.json) json(work, { from: aws.region, mode: mode === "plan" ? "dry-run" : "release", cells });
  else {
    const head = ["recipe", "account", "region", "AMI", "state", "channel", "seconds"];
    io.print(
      table([
        head,
        ...cells.map((c) => [
          c.recipe,
          c.account,
          c.region,
          c.ami ?? "-",
          c.state,
          c.channel ?? "-",
          mode === "plan" ? "-" : c.seconds.toFixed(1),
        ]),
      ]),
    );
    for (const c of wrong)
      io.print(`\n${c.recipe} in ${c.account} ${c.region}: ${c.error}${c.hint === undefined ? "" : `\n  hint: ${c.hint}`}`);
    if (wrong.some((c) => c.state === "refused")) io.print("\nnothing was begun");
    else if (wrong.length) io.print("\nthe next run does what is left: ingot image release --on aws");
  }
  return wrong.length ? 1 : 0;
}
