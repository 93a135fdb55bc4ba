// What is written in a stack in another program's language: that program says whether it takes it, in the image, before anything is launched.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Image } from "../images/image.ts";
import { type Diagnostic, diagnostic } from "../lib/diagnostics.ts";
import { digestOf } from "../lib/digest.ts";
import { ledgerAt } from "../lib/ledger.ts";
import type { Project } from "../lib/paths.ts";
import { during, type Progress } from "../lib/progress.ts";
import type { Path } from "../lib/yaml.ts";
import type { HostModel, StackModel } from "./model.ts";
import { inImage } from "./release.ts";
import { cloudConfig } from "./resources/cloud-config.ts";
import { docker, settingsOf } from "./resources/docker.ts";
import { site } from "./resources/site.ts";
import { timer } from "./resources/timer.ts";

interface Snippet {
  /** Where it stands in the stack. */
  path: Path;
  /** Whose it is, for people. */
  what: string;
  code: string;
  program: string;
  /** In cloud-init/release/; it reads `content` from /build/`file`, leaves what the program says in /build/said and its verdict in /build/code. */
  script: string;
  file: string;
  content: string;
  /** What of that is for the user; `at`: a place below `path`. */
  complaints(said: string): { at?: Path; said: string }[];
}

const nginxHead = ["events {}", "http {", "server {", "listen 127.0.0.1:1;"];

function snippetsOf(host: HostModel): Snippet[] {
  const sites = host.all(site).flatMap(({ name, path, value: { snippet } }): Snippet[] =>
    snippet === undefined
      ? []
      : [
          {
            path: [...path, "snippet"],
            what: `the snippet of ${name}`,
            code: "ING1435",
            program: "nginx",
            script: "nginx.sh",
            file: "nginx.conf",
            content: [...nginxHead, snippet, "}", "}", ""].join("\n"),
            complaints: (said) => {
              const line = /\[emerg\][^:]*: (.*) in \/build\/nginx\.conf:(\d+)/.exec(said);
              return [{ said: line ? `line ${Number(line[2]) - nginxHead.length}: ${line[1]}` : said }];
            },
          },
        ],
  );
  const daemons = host.all(docker).flatMap(({ path, value }): Snippet[] =>
    Object.keys(value.settings).length === 0
      ? []
      : [
          {
            path: [...path, "settings"],
            what: "the settings of its daemon",
            code: "ING1437",
            program: "Docker",
            script: "dockerd.sh",
            file: "daemon.json",
            content: settingsOf(value),
            complaints: (said) => [{ said: said.replace(/^unable to configure the Docker daemon with file \S+: /, "") }],
          },
        ],
  );
  const timers = host.all(timer).flatMap(({ name, path, value: { calendar } }): Snippet[] =>
    calendar === undefined
      ? []
      : [
          {
            path: [...path, "calendar"],
            what: `the times of ${name}`,
            code: "ING1419",
            program: "systemd",
            script: "calendar.sh",
            file: "calendar",
            content: calendar,
            complaints: (said) => [{ said: said.split("\n")[0] ?? "" }],
          },
        ],
  );
  const raw = host.all(cloudConfig).map(
    ({ path, value }): Snippet => ({
      path,
      what: "these keys",
      code: "ING1443",
      program: "cloud-init",
      script: "cloud-config.sh",
      file: "cloud-config.json",
      content: JSON.stringify(value),
      complaints: (said) => JSON.parse(said) as { at: Path; said: string }[],
    }),
  );
  return [...sites, ...daemons, ...timers, ...raw];
}

/** What is refused of a host's snippets. What was taken once is not asked about again. */
export async function refusedSnippets(
  project: Project,
  model: StackModel,
  host: HostModel,
  image: Image,
  progress: Progress,
): Promise<Diagnostic[]> {
  const found: Diagnostic[] = [];
  for (const snippet of snippetsOf(host)) {
    const { path, what, code, program, content } = snippet;
    const taken = join(project.cache, "snippets", digestOf([program, content, image.manifest.base]).slice(0, 16));
    if (existsSync(taken)) continue;
    const said = await during(progress, `${program}'s opinion of ${what}`, () => ask(project, snippet, image));
    mkdirSync(join(project.cache, "snippets"), { recursive: true });
    if (said === undefined) writeFileSync(taken, "");
    for (const { at = [], said: why } of said ?? [])
      found.push(diagnostic(code, model.yaml.rangeOf([...path, ...at]), `${program} refuses ${what}: ${why}`));
  }
  return found;
}

/** undefined: it takes it. */
async function ask(
  project: Project,
  { what, program, script, file, content, complaints }: Snippet,
  image: Image,
): Promise<ReturnType<Snippet["complaints"]> | undefined> {
  mkdirSync(project.cache, { recursive: true });
  const ledger = ledgerAt(project.ledger);
  const work = mkdtempSync(join(project.cache, ".snippet-"));
  const entry = ledger.begin(`snippet-${digestOf(work).slice(0, 8)}`, `${program}'s opinion of ${what}`);
  ledger.add(entry, { kind: "folder", path: work });
  try {
    writeFileSync(join(work, file), content);
    await inImage(image, work, script, {}, ["--private-network"]);
    return readFileSync(join(work, "code"), "utf8").trim() === "0"
      ? undefined
      : complaints(readFileSync(join(work, "said"), "utf8").trim());
  } finally {
    await ledger.undo(entry);
  }
}
