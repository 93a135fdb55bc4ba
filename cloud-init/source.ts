// Where an application's sources come from: a folder beside the stack, a tarball, a commit. What they are is known before they are fetched, and
// they are the same bytes on every computer. release.ts and the kind `application` call it.
import {
  cpSync,
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { MissingError, RefusedError } from "../lib/diagnostics.ts";
import { digestOf, sha256, sha256File } from "../lib/digest.ts";
import { lockWhenFree } from "../lib/lock.ts";
import type { Project } from "../lib/paths.ts";
import { either, type Infer, object, optional, text } from "../lib/schema.ts";
import { type Host, inStackFolder, isThere, type Problem } from "./kind.ts";

export const sourceSchema = either([
  text(),
  object({
    tarball: text({
      description: "A tar archive: a file beside the stack, or an `https://` address. One folder around everything is taken off",
    }),
    sha256: text({ pattern: "^[0-9a-f]{64}$", expected: "a sha256 in hexadecimal", description: "What its bytes must come to" }),
  }),
  object({
    git: text({
      pattern: "^(https?://|ssh://|file://|[A-Za-z0-9_.-]+@|\\.{0,2}/)[^\\n]*$",
      expected: "a repository: an `https://` or ssh address, or a path that begins with `.` or `/`",
      description: "A git repository",
    }),
    commit: text({
      pattern: "^[0-9a-f]{40}$",
      expected: "a commit's full hash",
      description: "The commit, in full: a branch is another tomorrow",
    }),
    ref: optional(
      text({
        pattern: "^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description: "The branch or tag that it is on: for servers that give no commit by its hash alone",
      }),
    ),
  }),
]);
export type Source = Infer<typeof sourceSchema>;

const skipped = (name: string): boolean => [".git", "__pycache__", "node_modules", ".venv", ".ingot"].includes(name);

/** Every file of a source folder with its mode and hash, every link with its target, sorted. Caches and version control are left out. */
function filesIn(folder: string, prefix = ""): [path: string, mode: number | "link", content: string][] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((e) => !skipped(e.name))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((e): [string, number | "link", string][] => {
      const path = join(folder, e.name);
      if (e.isSymbolicLink()) return [[`${prefix}${e.name}`, "link", readlinkSync(path)]];
      if (e.isDirectory()) return filesIn(path, `${prefix}${e.name}/`);
      return [[`${prefix}${e.name}`, statSync(path).mode & 0o111 ? 0o755 : 0o644, sha256(readFileSync(path))]];
    });
}

/** What a release's id is made from. A mirror's address is no part of it. */
export function sourceKey(host: Host, source: Source): unknown {
  if (typeof source !== "string") return "git" in source ? { commit: source.commit } : { tarball: source.sha256 };
  const folder = inStackFolder(host, source);
  return existsSync(folder) ? filesIn(folder) : [];
}

/** A source in a few words, for people; a password in an address stays out. */
export function sourceText(source: Source): string {
  if (typeof source === "string") return `folder ${source}`;
  if ("git" in source) return `commit ${source.commit} of ${source.git.replace(/\/\/[^/@]*@/, "//")}`;
  return `tarball ${source.tarball.replace(/\/\/[^/@]*@/, "//")}`;
}

const isUrl = (place: string): boolean => /^https?:\/\//.test(place);

/** What is wrong with it; `needed` are files that must be in it, where that can be looked up now. */
export function sourceProblems(host: Host, source: Source, needed: { path: string; key: string }[]): Problem[] {
  if (typeof source === "string") {
    if (!isThere(host, source, "folder"))
      return [{ code: "ING1401", path: ["source"], message: `there is no folder \`${source}\` beside the stack` }];
    return needed.flatMap(({ path, key }): Problem[] =>
      isThere(host, join(source, path), "file")
        ? []
        : [{ code: "ING1401", path: [key], message: `there is no file \`${path}\` in ${source}` }],
    );
  }
  if ("tarball" in source && !isUrl(source.tarball) && !isThere(host, source.tarball, "file"))
    return [{ code: "ING1401", path: ["source", "tarball"], message: `there is no file \`${source.tarball}\` beside the stack` }];
  return [];
}

/**
 * Puts the sources into `into`, which must not be there. Downloads are kept below `.ingot/cache/sources`.
 * @throws RefusedError when they cannot be had, or are other bytes than the stack says
 */
export async function fetchSource(project: Project, host: Host, source: Source, into: string, note: (text: string) => void): Promise<void> {
  if (typeof source === "string") {
    const folder = inStackFolder(host, source);
    cpSync(folder, into, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => path === folder || !skipped(path.split("/").at(-1) ?? ""),
    });
    return;
  }
  const cache = join(project.cache, "sources");
  mkdirSync(cache, { recursive: true });
  const { run } = await import("../lib/run.ts");
  if ("tarball" in source) {
    const local = inStackFolder(host, source.tarball);
    const archive = isUrl(source.tarball) ? await fetched(project, source.tarball, source.sha256, note) : local;
    if (archive === local) await mustBe(local, source.sha256, source.tarball);
    mkdirSync(into);
    await run(["tar", "--extract", "--no-same-owner", `--file=${archive}`, `--directory=${into}`]);
    withoutWrapper(into);
    return;
  }
  const repository = join(cache, `${digestOf(source.git).slice(0, 16)}.git`);
  const lock = await lockWhenFree(`git ${repository}`, `fetch of ${source.git}`, (holder) => note(`waiting for ${holder}`));
  try {
    await fetchCommit(host, source, repository, note);
    mkdirSync(into);
    const archive = `${into}.tar`;
    await run(["git", "-C", repository, "archive", `--output=${archive}`, source.commit]);
    await run(["tar", "--extract", `--file=${archive}`, `--directory=${into}`]);
    rmSync(archive);
  } finally {
    lock.release();
  }
}

async function mustBe(file: string, expected: string, shown: string): Promise<void> {
  const found = await sha256File(file);
  if (found !== expected)
    throw new RefusedError(`${shown} is not what the stack says: its sha256 is ${found}`, "look at why, before you change the stack");
}

/** Where the bytes of an address are on this computer, fetched unless they are there. @throws RefusedError when they cannot be had, or are others */
export async function fetched(project: Project, url: string, expected: string, note: (text: string) => void): Promise<string> {
  const path = join(project.cache, "sources", expected);
  if (!existsSync(path)) {
    note(`fetching ${url}`);
    mkdirSync(dirname(path), { recursive: true });
    await download(url, path, expected);
  }
  await mustBe(path, expected, url);
  return path;
}

/** Beside its place until it is whole and proven. */
async function download(url: string, path: string, expected: string): Promise<void> {
  const folder = mkdtempSync(join(dirname(path), ".fetch-"));
  const part = join(folder, "part");
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(600_000), redirect: "follow" });
    if (!answer.ok || !answer.body) throw new RefusedError(`${url}: ${answer.status} ${answer.statusText}`);
    await pipeline(Readable.fromWeb(answer.body as Parameters<typeof Readable.fromWeb>[0]), createWriteStream(part));
    await mustBe(part, expected, url);
    renameSync(part, path);
  } catch (error) {
    if (error instanceof RefusedError) throw error;
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    throw new RefusedError(`${url} cannot be fetched: ${cause instanceof Error ? cause.message : String(cause)}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Archives of releases have one folder around everything: `patchwork-1.1.0/`. */
function withoutWrapper(folder: string): void {
  const entries = readdirSync(folder, { withFileTypes: true });
  const [only] = entries;
  if (entries.length !== 1 || !only?.isDirectory()) return;
  renameSync(join(folder, only.name), `${folder}.inner`);
  rmSync(folder, { recursive: true });
  renameSync(`${folder}.inner`, folder);
}

type GitSource = Extract<Source, { git: string }>;

async function fetchCommit(host: Host, { git, commit, ref }: GitSource, repository: string, note: (text: string) => void): Promise<void> {
  const { run, tryRun } = await import("../lib/run.ts");
  const at = (...words: string[]) => ["git", "-C", repository, ...words];
  const env = { GIT_TERMINAL_PROMPT: "0" };
  if (!existsSync(repository)) {
    const made = await tryRun(["git", "init", "--quiet", "--bare", repository]).catch(() => undefined);
    if (!made) throw new MissingError("git is not on this computer", "apt-get install git");
    if (made.code !== 0) throw new RefusedError(`git init: ${made.stderr.trim()}`);
  }
  if ((await tryRun(at("cat-file", "-e", `${commit}^{commit}`))).code === 0) return;
  note(`fetching ${git}`);
  const from = /^\.{0,2}\//.test(git) ? inStackFolder(host, git) : git;
  // Most servers give a commit by its hash; the others give it with the branch that it is on.
  const one = await tryRun(at("fetch", "--quiet", "--depth=1", "--", from, commit), { env, timeoutSeconds: 600 });
  if (one.code === 0) return;
  await run(at("fetch", "--quiet", "--tags", "--", from, ref ?? "+refs/heads/*:refs/heads/*"), { env, timeoutSeconds: 600 }).catch(
    (error: unknown) => {
      throw new RefusedError(`${git} cannot be fetched: ${error instanceof Error ? error.message : String(error)}`);
    },
  );
  if ((await tryRun(at("cat-file", "-e", `${commit}^{commit}`))).code !== 0)
    throw new RefusedError(`${git} has no commit ${commit}${ref ? ` on ${ref}` : ""}`, `git ls-remote ${git} says what there is`);
}
