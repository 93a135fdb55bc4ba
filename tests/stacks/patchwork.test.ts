// The stand-in for Patchwork is deployed from a tarball, which holds what its folder holds. INGOT_UPDATE=1 packs it anew: the same bytes for the
// same files; and writes its sha256 into the stacks.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { sha256 } from "../../lib/digest.ts";
import { toolFolder } from "../../lib/paths.ts";
import { suite } from "../suite.ts";

const test = suite("patchwork: its tarball");
const source = join(toolFolder, "tests/apps/patchwork");
const tarball = `${source}.tar.gz`;
const stacks = readdirSync(join(toolFolder, "stacks"))
  .filter((f) => f.startsWith("patchwork") && f.endsWith(".yaml"))
  .map((f) => join(toolFolder, "stacks", f));

/** A tar archive whose bytes follow from the files' names, modes and contents alone. */
const packed = (): Buffer =>
  execFileSync(
    "tar",
    [
      "--create",
      "--sort=name",
      "--mtime=@0",
      "--owner=0",
      "--group=0",
      "--numeric-owner",
      "--mode=u+rw,go=rX",
      "--format=ustar",
      "--exclude=__pycache__",
      "--transform=s,^patchwork,patchwork-1.1.0,",
      `--directory=${join(source, "..")}`,
      "patchwork",
    ],
    { maxBuffer: 2 ** 26 },
  );

test("it holds what its folder holds", () => {
  if (process.env.INGOT_UPDATE === "1") writeFileSync(tarball, execFileSync("gzip", ["--no-name", "--best"], { input: packed() }));
  // What gzip makes of it may differ between versions of gzip, the archive in it not.
  assert.is(sha256(execFileSync("gzip", ["--decompress", "--stdout", tarball], { maxBuffer: 2 ** 26 })), sha256(packed()));
});

test("the stacks name it by its sha256", () => {
  const digest = sha256(readFileSync(tarball));
  for (const stack of stacks) {
    const text = readFileSync(stack, "utf8");
    const named = text.replace(/(tests\/apps\/patchwork\.tar\.gz, sha256: )"?\w*"?/, `$1${digest}`);
    if (process.env.INGOT_UPDATE === "1") writeFileSync(stack, named);
    assert.is(readFileSync(stack, "utf8"), named, stack);
  }
});

test.run();
