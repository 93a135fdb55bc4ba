// An image as `docker save` writes it, made of a few programs of a root tree: no registry and no daemon has a part in it.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { sha256 } from "../../lib/digest.ts";

export interface Archive {
  /** Root tree of a Debian 12. */
  root: string;
  /** In /usr/bin, of those that need no library but libc. */
  programs: string[];
  /** Its name in the archive, if it has one. */
  tag?: string;
  /** Further files by path. */
  files?: Record<string, string>;
}

const libraries = ["lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"];

/** Writes the archive to `path`; gives its sha256. Source of the format: the image specification v1.2 of Moby. */
export function dockerArchive(path: string, { root, programs, tag, files = {} }: Archive): string {
  const work = mkdtempSync(join(dirname(path), ".archive-"));
  const tar = (file: string, folder: string) =>
    execFileSync("tar", [
      "--create",
      "--sort=name",
      "--mtime=@0",
      "--owner=0",
      "--group=0",
      `--file=${file}`,
      `--directory=${folder}`,
      ".",
    ]);
  try {
    const tree = join(work, "tree");
    for (const name of [...libraries, ...programs.map((p) => `bin/${p}`)])
      cpSync(join(root, "usr", name), join(tree, "usr", name), { dereference: true });
    for (const name of ["bin", "lib", "lib64"]) symlinkSync(`usr/${name}`, join(tree, name));
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(join(tree, dirname(name)), { recursive: true });
      writeFileSync(join(tree, name), content);
    }
    const image = join(work, "image");
    mkdirSync(image);
    tar(join(image, "layer.tar"), tree);
    const config = JSON.stringify({
      architecture: "amd64",
      os: "linux",
      config: { Env: ["PATH=/bin"], Cmd: ["sh"] },
      rootfs: { type: "layers", diff_ids: [`sha256:${sha256(readFileSync(join(image, "layer.tar")))}`] },
    });
    const name = `${sha256(config)}.json`;
    writeFileSync(join(image, name), config);
    const manifest = [{ Config: name, RepoTags: tag === undefined ? null : [tag], Layers: ["layer.tar"] }];
    writeFileSync(join(image, "manifest.json"), JSON.stringify(manifest));
    tar(join(work, "archive"), image);
    renameSync(join(work, "archive"), path);
  } finally {
    rmSync(work, { recursive: true });
  }
  return sha256(readFileSync(path));
}
