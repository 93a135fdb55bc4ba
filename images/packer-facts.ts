// What a builder of Packer's has found out about the tree that it has made, held against the same truths as a tree that was baked here. Called by
// scripts/image.ts (`ingot image prove`), which Packer runs before the tree takes the builder's place.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { RefusedError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { run } from "../lib/run.ts";
import type { Manifest } from "./image.ts";
import { type Facts, manifestOf, readFacts } from "./manifest.ts";
import type { Wanted } from "./packer-folder.ts";
import { brokenTruths } from "./truths.ts";

/** @param archive as build.sh has packed them */
async function factsIn(archive: string): Promise<Facts> {
  const folder = mkdtempSync(join(dirname(archive), ".facts-"));
  try {
    await run(["tar", "--extract", "--gzip", "--no-same-owner", "--file", archive, "--directory", folder]);
    return readFacts(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * The manifest of what was made, written beside the facts with the list of its files.
 * @param digest what was to be made
 * @throws RefusedError when it is not what it must be, or the recipe has changed meanwhile
 */
export async function proveFacts({ recipe, lock, host, digests, layers }: Wanted, digest: string, archive: string): Promise<Manifest> {
  if (digests.digest !== digest)
    throw new RefusedError(
      `${recipe.image} has changed since Packer began: it was ${short(digest)}, and is ${short(digests.digest)}`,
      "begin anew",
    );
  const facts = await factsIn(archive);
  const broken = brokenTruths(recipe, lock, host, facts);
  if (broken.length)
    throw new RefusedError(`the image of ${recipe.image} is not what it must be:\n${broken.map((b) => `  ${b}`).join("\n")}`);
  const manifest = manifestOf(recipe, lock, digests, facts, {
    baked: new Date().toISOString(),
    bakeSeconds: 0,
    configureSeconds: 0,
    layers,
  });
  mkdirSync(dirname(archive), { recursive: true });
  writeFileSync(manifestPath(archive), `${JSON.stringify(manifest, null, 1)}\n`);
  return manifest;
}

const manifestPath = (archive: string): string => join(dirname(archive), "manifest.json");

/** Of the last builder whose tree was right. */
export const readProven = (archive: string): Manifest => JSON.parse(readFileSync(manifestPath(archive), "utf8")) as Manifest;
