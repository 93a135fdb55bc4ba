// Whether a tree of the store still is what it was when it was made: `ingot image verify`, and every layer before it counts.
import { join } from "node:path";
import { sha256, sha256File, short } from "../lib/digest.ts";
import { toolFolder } from "../lib/paths.ts";
import { during, type Progress } from "../lib/progress.ts";
import { asRoot, tryRun } from "../lib/run.ts";
import { describeDifference, differenceOf } from "./difference.ts";
import type { Image } from "./image.ts";
import { readListing } from "./manifest.ts";
import { filesOf } from "./store.ts";

/** Lists a tree anew, all of its contents included; undefined when that cannot be read. */
async function listed(root: string): Promise<string | undefined> {
  const { code, stdout } = await tryRun(asRoot(["python3", "-B", join(toolFolder, "images/provision/listing.py"), root]));
  return code === 0 ? stdout : undefined;
}

/**
 * Whether a layer's tree and its listing are as they were made.
 * @param tree the sum of its listing then
 */
export async function isSound(root: string, tree: string): Promise<boolean> {
  const kept = await sha256File(join(root, "../files")).catch(() => undefined);
  if (kept !== tree) return false;
  const now = await listed(root);
  return now !== undefined && sha256(now) === tree;
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
