// `ingot deploy --ref`: a branch, a tag or the beginning of a commit becomes one commit, as the repository has it at this moment.
import { MissingError, nearest, RefusedError } from "../lib/diagnostics.ts";
import type { ChosenCommit } from "../lib/paths.ts";
import { type Host, inStackFolder } from "./kind.ts";

const environment = { GIT_TERMINAL_PROMPT: "0" };

/** @throws RefusedError with the nearest name when the repository has nothing of that name */
export async function commitOf(host: Pick<Host, "stackFolder">, git: string, asked: string): Promise<ChosenCommit> {
  if (/^[0-9a-f]{40}$/.test(asked)) return { commit: asked, asked };
  const { tryRun } = await import("../lib/run.ts");
  const from = /^\.{0,2}\//.test(git) ? inStackFolder(host, git) : git;
  const listed = await tryRun(["git", "ls-remote", "--heads", "--tags", "--", from], { env: environment, timeoutSeconds: 60 }).catch(() => {
    throw new MissingError("git is not on this computer", "apt-get install git");
  });
  if (listed.code !== 0) throw new RefusedError(`${git} cannot be asked for ${asked}: ${listed.stderr.trim()}`);
  const refs = new Map(
    listed.stdout.split("\n").flatMap((line): [string, string][] => {
      const [commit, ref] = line.split("\t");
      return commit && ref ? [[ref, commit]] : [];
    }),
  );
  // As git itself looks for a name; `^{}` is the commit that an annotated tag is on.
  for (const ref of [`refs/tags/${asked}^{}`, `refs/tags/${asked}`, `refs/heads/${asked}`]) {
    const commit = refs.get(ref);
    if (commit !== undefined) return { commit, ref: asked, asked };
  }
  const begun = /^[0-9a-f]{7,39}$/.test(asked) ? [...new Set([...refs.values()].filter((c) => c.startsWith(asked)))] : [];
  if (begun.length === 1) return { commit: begun[0] ?? "", asked };
  const names = [...new Set([...refs.keys()].map((r) => r.replace(/^refs\/(heads|tags)\//, "").replace(/\^\{\}$/, "")))];
  const near = nearest(asked, names);
  throw new RefusedError(
    `${git} has no branch, tag or commit \`${asked}\``,
    near ? `did you mean \`${near}\`?` : `there are: ${names.slice(0, 20).join(", ")}; a commit that no branch ends in is named in full`,
  );
}
