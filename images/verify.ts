// Whether a tree of the store still is what it was when it was made: `ingot image verify`, and every layer before it counts.
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sha256, sha256File, short } from "../lib/digest.ts";
import { toolFolder } from "../lib/paths.ts";
import { during, type Progress } from "../lib/progress.ts";
import { asRoot, tryRun } from "../lib/run.ts";
import { describeDifference, differenceOf } from "./difference.ts";
import type { Image } from "./image.ts";
import { readListing } from "./manifest.ts";
import { filesOf } from "./store.ts";

/** Lists a tree anew, all of its contents included; undefined when that cannot be read. @param known see listing.py */
async function listed(root: string, known: string[] = []): Promise<string | undefined> {
  const { code, stdout } = await tryRun(asRoot(["python3", "-B", join(toolFolder, "images/provision/listing.py"), root, ...known]));
  return code === 0 ? stdout : undefined;
}

/** Of a layer, beside its tree: when all of its contents were read. */
export const proof = "proven";
const hour = 3_600_000;

/**
 * Whether a layer's tree and its listing are as they were made. Within an hour of a proof a file that has its size and its times still is not read
 * again: whoever writes to it changes them.
 * @param tree the sum of its listing then
 */
export async function isSound(root: string, tree: string): Promise<boolean> {
  const listing = join(root, "../files");
  const kept = await sha256File(listing).catch(() => undefined);
  if (kept !== tree) return false;
  const proven = join(root, "..", proof);
  const recent = Date.now() - (statSync(proven, { throwIfNoEntry: false })?.mtimeMs ?? 0) < hour;
  const now = await listed(root, recent ? [root, listing, "/dev/null"] : []);
  const sound = now !== undefined && sha256(now) === tree;
  if (sound && !recent) writeFileSync(proven, "");
  return sound;
}

/** `said`: what is not as it was, path by path. */
export async function verifyImage(image: Image, progress: Progress): Promise<{ ok: boolean; said: string[] }> {
  const { tree } = image.manifest;
  // Of an image by an older Ingot.
  if (tree === undefined) return { ok: false, said: ["it has no sum over its tree: bake it anew"] };
  const now = await during(progress, `read all of ${image.name} ${short(image.digest)}`, () => listed(image.root));
  if (now === undefined) return { ok: false, said: ["its tree cannot be read"] };
  if (sha256(now) === tree) return { ok: true, said: [] };
  const before = filesOf(image);
  const { files } = differenceOf({ manifest: image.manifest, files: before }, { manifest: image.manifest, files: readListing(now) });
  const said = describeDifference({ ...nothing, files });
  return { ok: false, said: said.length ? said : ["its list of files is not the one that it was baked with"] };
}

const same = { added: [], removed: [], changed: [] };
const nothing = { packages: { added: {}, removed: {}, changed: [] }, units: same, users: same, groups: same, size: 0 };
