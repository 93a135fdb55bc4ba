// ingot image …: the recipes' locks and images. All work is done by images/.
import { statSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { imageDigest } from "../images/digest.ts";
import type { Image } from "../images/image.ts";
import { describeChanges, megabytes } from "../images/lock.ts";
import { loadRecipe, recipeNames } from "../images/recipe.ts";
import { filesOf, findImage, listImages } from "../images/store.ts";
import { RefusedError, UsageError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import type { Project } from "../lib/paths.ts";
import { during } from "../lib/progress.ts";
import type { Io } from "./command.ts";

export const help = `Lock and bake images, show what is in them, and keep their store.

Usage: ingot image lock <recipe>            ask the archives which packages the recipe comes to, and write them down
       ingot image plan <recipe>            what a bake would do and why, and what it changes
       ingot image bake <recipe> [--locked] make the image, unless it is there already
       ingot image disk <recipe> [--format raw|qcow2] [--locked]
                                            make a disk of it that boots by BIOS and by UEFI, unless it is there already
       ingot image list                     the recipes, and the images that were baked
       ingot image show <image>             what is in an image
       ingot image diff <image> <image>     what the second has more, less, and otherwise than the first
       ingot image verify [<image> …]       read all of it, and say what is not as it was baked
       ingot image prove <recipe> <digest> <facts>
                                            what Packer's template calls: whether the tree on its builder is this image
       ingot image prune [<image> …] [--yes]
                                            which images, layers and disks nobody refers to, or these images; --yes removes them

A recipe is a file images/<name>.yaml; its lock is images/<name>.lock.json and belongs into git. What makes
disks (GRUB, shim) has a lock of its own, images/<distro>-<release>-<architecture>.disk.lock.json, from the first disk on. An image is
said by its recipe, as that stands now, or by the beginning of its digest.

Options:
  --against <image>  plan: compare with this image, instead of with the last one of the recipe
  --format <format>  disk: raw (as it is, sparse) or qcow2 (packed, for QEMU and for carrying about); raw without it
  --locked           bake, disk: fail rather than lock anew when a locked package is gone from the archives
  --yes              prune: remove
  --json             print the result as JSON

On EC2, an image is an AMI, known by its digest (docs/images-on-aws.md):

       ingot image list [<recipe>] --on aws        the AMIs of the region, and which channels name them
       ingot image show <image> --on aws           what its tags say, whom it is shared with, who uses it
       ingot image copy <image> --to <region> [--to …] [--kms <key>|--encrypt] --on aws
                                                   have it in other regions, once in each
       ingot image share <image> --with <account|arn> [--with …] [--undo] --on aws
                                                   let accounts, organisations or their units boot it, or no longer
       ingot image deprecate <image> [--at <date>] [--undo] --on aws
                                                   show it to nobody any more; what uses it goes on
       ingot image prune [<image> …] [--keep <number>] [--yes] --on aws
                                                   which AMIs nobody uses, or these; --yes removes them with their snapshots
       ingot image promote <image> <channel> --on aws
                                                   make it the recipe's candidate or stable, which stacks follow; what is to be
                                                   stable is booted once before, and looked at
       ingot image rollback <recipe> <channel> --on aws
                                                   make the channel again what it was before
       ingot image history <recipe> [<channel>] --on aws
                                                   what channels were, when, and by whom
       ingot image release [<file>] --on aws       what images/release.yaml says: recipes to accounts and regions, with their keys
                                                   and channels; what is there is passed by

There an image is said by its recipe, as that stands now, by the beginning of its digest, by the AMI's id, or by \`<recipe>/<channel>\`.

  --region <region>  where; without it the region of the project's stacks, or of AWS_REGION
  --dry-run          copy, share, deprecate, prune, promote, rollback, release: look at everything, change nothing
  --to <region>      copy: where to
  --kms <key>        copy: encrypt it with this key of the other region, by its id, ARN or alias
  --encrypt          copy: encrypt it with the account's default key for EBS (AWS's own one cannot be shared)
  --with <account>   share: an account's number, or the ARN of an organisation or of a unit
  --at <date>        deprecate: when, in UTC; now without it
  --undo             share, deprecate: take it back
  --type <type>      promote, release: the instance's that is booted; t3.micro or t4g.micro without it
  --subnet <subnet>  promote, release: where it is, in an account without a default VPC; it needs no way out
  --keep <number>    prune: so many of each recipe stay in any case, the newest (3)`;

const verbs = ["lock", "plan", "bake", "disk", "list", "show", "diff", "verify", "prove", "prune"];

/** What is about AMIs with `--on aws`; the others are about this computer wherever machines are. */
const onAws = ["list", "show", "copy", "share", "deprecate", "prune", "promote", "rollback", "history", "release"];

export async function main(args: string[], io: Io): Promise<number> {
  const asked = args.find((a) => !a.startsWith("-")) ?? "";
  if (onAws.includes(asked)) {
    if (io.on === "aws") return (await import("./image-aws.ts")).main(args, io);
    if (!verbs.includes(asked)) throw new UsageError(`\`ingot image ${asked}\` is about AMIs`, `ingot image ${asked} … --on aws`);
  }
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { locked: { type: "boolean" }, format: { type: "string" }, against: { type: "string" }, yes: { type: "boolean" } },
  });
  const [verb, ...names] = positionals;
  if (verb === undefined || !verbs.includes(verb))
    throw new UsageError(
      verb === undefined ? "image: what about it?" : `there is no command \`ingot image ${verb}\``,
      `${verbs.slice(0, -1).join(", ")} or ${verbs.at(-1)}: ingot image --help`,
    );
  const most = ["verify", "prove", "prune"].includes(verb) ? names.length : verb === "diff" ? 2 : verb === "list" ? 0 : 1;
  if (names.length > most || (verb === "diff" && names.length < 2))
    throw new RefusedError(`ingot image ${verb} takes ${["no name", "one name", "two names"][most]}`, "ingot image --help");
  if (verb === "prove") return prove(names, io);
  if (verb === "list") return list(io);
  if (verb === "prune") return pruneCommand(names, values.yes, io);
  if (verb === "verify") return verify(names, io);
  if (verb === "diff") return diff(names, io);
  const wanted = names[0] ?? only(io.project, verb);
  if (verb === "lock") return lock(wanted, io);
  if (verb === "plan") return plan(wanted, values.against, io);
  if (verb === "bake") return bakeCommand(wanted, values.locked, io);
  if (verb === "disk") return disk(wanted, values.format ?? "raw", values.locked, io);
  return show(wanted, io);
}

/** The project's recipe where there is but one. */
export function only(project: Project, verb: string): string {
  const names = recipeNames(project);
  if (names.length === 1 && names[0] !== undefined) return names[0];
  throw new RefusedError(`${verb}: which recipe?`, `recipes here: ${names.join(", ") || "none"}`);
}

async function lock(name: string, { json, project, progress, print }: Io): Promise<number> {
  const { lockRecipe } = await import("../images/archive.ts");
  const { explainedLock } = await import("../images/changelog.ts");
  const { hasToolsLock, lockTools } = await import("../images/tools.ts");
  const recipe = loadRecipe(project, name);
  const { lock, changes: found } = await lockRecipe(project, recipe, progress);
  const changes = await explainedLock(project, recipe, lock, found, progress);
  for (const tools of ["disk", "builder"] as const)
    if (hasToolsLock(project, tools, recipe)) await lockTools(project, tools, recipe, progress);
  if (json) print(JSON.stringify({ image: name, packages: lock.packages.length, ...changes }, null, 2));
  else for (const line of [`images/${name}.lock.json: ${lock.packages.length} packages`, ...describeChanges(changes)]) print(line);
  return 0;
}

/** Also `ingot bake`. */
export async function bakeCommand(name: string, locked: boolean | undefined, { json, project, progress, print }: Io): Promise<number> {
  const { bake } = await import("../images/bake.ts");
  const { image, baked, seconds } = await bake(project, name, { locked: locked ? true : undefined, progress });
  if (json) print(JSON.stringify({ image: name, digest: image.digest, root: image.root, baked, seconds }, null, 2));
  else
    print(
      `${name} ${short(image.digest)} ${baked ? `baked in ${seconds.toFixed(1)} s` : "is baked already: nothing to do"}: ${summary(image)}`,
    );
  return 0;
}

async function disk(name: string, format: string, locked: boolean | undefined, { json, project, progress, print }: Io): Promise<number> {
  const { diskFormats, makeDisk } = await import("../images/disk.ts");
  const wanted = diskFormats.find((f) => f === format);
  if (!wanted) throw new UsageError(`there is no format \`${format}\``, `--format ${diskFormats.join(", or --format ")}`);
  const { image, path, size, made, seconds } = await makeDisk(project, name, wanted, { locked: locked ? true : undefined, progress });
  const holds = statSync(path).blocks * 512;
  if (json) print(JSON.stringify({ image: name, digest: image.digest, format, path, size, holds, made, seconds }, null, 2));
  else {
    print(`${name} ${short(image.digest)}: ${made ? `disk made in ${seconds.toFixed(1)} s` : "its disk is there already"}`);
    print(`  ${path}`);
    print(
      `  ${megabytes(size)}, of which ${megabytes(holds)} are on this computer; it boots by UEFI${image.manifest.architecture === "amd64" ? " and by BIOS" : ""}`,
    );
  }
  return 0;
}

const summary = (image: Image): string => `${Object.keys(image.manifest.packages).length} packages, ${megabytes(image.manifest.size)}`;

function list({ json, project, print }: Io): number {
  const current = new Map(recipeNames(project).map((name) => [imageDigest(project, loadRecipe(project, name)), name]));
  const images = listImages(project).map((image) => ({
    name: image.name,
    digest: image.digest,
    baked: image.manifest.baked,
    size: image.manifest.size,
    current: current.has(image.digest),
  }));
  if (json) {
    print(JSON.stringify({ recipes: recipeNames(project), images }, null, 2));
    return 0;
  }
  for (const name of recipeNames(project)) {
    const mine = images.filter((i) => i.name === name);
    print(`${name}${mine.some((i) => i.current) ? "" : " (not baked as it is now: ingot bake " + name + ")"}`);
    for (const i of mine)
      print(`  ${short(i.digest)} ${i.baked.slice(0, 16).replace("T", " ")} ${megabytes(i.size)}${i.current ? " current" : ""}`);
  }
  return 0;
}

/** An image by its recipe's name, or by the beginning of its digest. */
function imageCalled(project: Project, name: string): Image {
  const found = recipeNames(project).includes(name)
    ? [findImage(project, name)]
    : listImages(project).filter((i) => i.digest.startsWith(name));
  if (found.length > 1) throw new RefusedError(`${found.length} images begin with ${name}`, "say more of the digest: ingot image list");
  if (!found[0]) throw new RefusedError(`${name} is not baked`, `ingot bake ${name}`);
  return found[0];
}

async function plan(name: string, against: string | undefined, { json, project, print }: Io): Promise<number> {
  const { planImage } = await import("../images/plan.ts");
  const { describeDifference, describePackages } = await import("../images/difference.ts");
  const planned = await planImage(project, name, against === undefined ? undefined : imageCalled(project, against));
  if (json) {
    print(JSON.stringify(planned, null, 2));
    return 0;
  }
  const { digest, action, because, steps, seconds, against: other, difference } = planned;
  if (action === "skip") print(`${name} ${short(digest ?? "")} is baked already: a bake does nothing`);
  else if (action === "lock and bake")
    print(`${name} would be locked and baked: ${because.join("; ")}\n  lock it to see more: ingot image lock ${name}`);
  else {
    print(`${name} ${short(digest ?? "")} would be baked${seconds === undefined ? "" : `, in about ${seconds.toFixed(0)} s`}:`);
    for (const line of because.slice(0, 20)) print(`  ${line}`);
    if (because.length > 20) print(`  and ${because.length - 20} more: --json has all`);
    print("made anew:");
    for (const step of steps) print(`  ${step.title}${step.seconds === undefined ? "" : ` (${step.seconds} s the last time)`}`);
  }
  if (!difference || !other) return 0;
  print(`compared with ${other.name} ${short(other.digest)}:`);
  const lines = "files" in difference ? describeDifference(difference) : describePackages(difference.packages);
  for (const line of lines.length ? lines : ["the same packages"]) print(`  ${line}`);
  return 0;
}

async function diff(names: string[], { json, project, print }: Io): Promise<number> {
  const { explained } = await import("../images/changelog.ts");
  const { describeDifference, differenceOf } = await import("../images/difference.ts");
  const [one, two] = names.map((name) => {
    const image = imageCalled(project, name);
    return { manifest: image.manifest, files: filesOf(image) };
  });
  if (!one || !two) throw new Error("two images");
  const found = differenceOf(one, two);
  const changed = await explained(project, found.packages.changed, two.manifest.debs ?? {});
  const difference = { ...found, packages: { ...found.packages, changed } };
  if (json) print(JSON.stringify(difference, null, 2));
  else for (const line of describeDifference(difference)) print(line);
  return 0;
}

async function verify(names: string[], { json, project, progress, print }: Io): Promise<number> {
  const { verifyImage } = await import("../images/verify.ts");
  const results = [];
  for (const image of names.length ? names.map((name) => imageCalled(project, name)) : listImages(project))
    results.push({ name: image.name, digest: image.digest, ...(await verifyImage(image, progress)) });
  if (json) print(JSON.stringify(results, null, 2));
  else
    for (const { name, digest, ok, said } of results) {
      print(`${name} ${short(digest)} ${ok ? "is as it was baked" : "IS NOT AS IT WAS BAKED"}`);
      for (const line of said) print(`  ${line}`);
    }
  return results.every((r) => r.ok) ? 0 : 1;
}

async function pruneCommand(names: string[], yes: boolean | undefined, io: Io): Promise<number> {
  const { json, project, print } = io;
  const [{ prunable, prune }, { mend }, { imagesInUse }] = await Promise.all([
    import("../images/prune.ts"),
    import("./machines.ts"),
    import("../stacks/local/machine.ts"),
  ]);
  // Undoes what killed bakes left, too.
  await mend(io);
  // Whichever target made them: a vm's disk stands on the image's.
  const inUse = imagesInUse(project);
  const images = names.map((name) => imageCalled(project, name));
  const held = images.find((i) => inUse.has(i.digest));
  if (held) throw new RefusedError(`a machine has ${held.name} ${short(held.digest)}`, "ingot status says which; ingot down ends it");
  const things = names.length ? images.map((i) => ({ kind: "image" as const, id: i.digest, name: i.name })) : prunable(project, inUse);
  if (yes) await during(io.progress, `remove ${things.length} images, layers and disks`, () => prune(project, things));
  if (json) print(JSON.stringify({ [yes ? "removed" : "prunable"]: things }, null, 2));
  else if (!things.length) print("every image, layer and disk is referred to");
  else {
    for (const { kind, id, name } of things)
      print(
        `${yes ? "removed" : names.length ? "would be removed:" : "nobody refers to"} ${kind} ${kind === "disk" ? basename(id) : short(id)} ${name}`,
      );
    if (!yes) print(`\nremove them: ingot image prune ${[...names, "--yes"].join(" ")}`);
  }
  return 0;
}

function show(name: string, { json, project, print }: Io): number {
  const image = imageCalled(project, name);
  const { manifest } = image;
  if (json) {
    print(JSON.stringify({ ...manifest, root: image.root }, null, 2));
    return 0;
  }
  const enabled = Object.entries(manifest.units).filter(([, state]) => state === "enabled");
  const versions = Object.entries(manifest.versions).filter(([, v]) => v !== undefined);
  print(`${manifest.name} ${manifest.digest}`);
  print(
    `  ${manifest.distro} ${manifest.release} ${manifest.architecture}, baked ${manifest.baked} in ${manifest.bakeSeconds} s, ${megabytes(manifest.size)}`,
  );
  print(`  ${image.root}`);
  print(`  ${Object.keys(manifest.packages).length} packages; ${versions.map(([n, v]) => `${n} ${v}`).join(", ")}`);
  print(`  started at boot: ${enabled.map(([n]) => n).join(", ")}`);
  print(`  everything in it: ingot image show ${name} --json`);
  return 0;
}

async function prove([name, digest, facts, ...more]: string[], { json, project, print }: Io): Promise<number> {
  if (name === undefined || digest === undefined || facts === undefined || more.length)
    throw new UsageError(
      "prove takes a recipe, a digest, and the archive of facts that was brought back from the builder",
      "ingot image --help",
    );
  const { wantedOf } = await import("../images/packer-folder.ts");
  const { proveFacts } = await import("../images/packer-facts.ts");
  const manifest = await proveFacts(wantedOf(project, name), digest, facts);
  if (json) print(JSON.stringify(manifest, null, 2));
  else print(`${name} ${short(digest)} is what it must be: ${Object.keys(manifest.packages).length} packages, ${megabytes(manifest.size)}`);
  return 0;
}
