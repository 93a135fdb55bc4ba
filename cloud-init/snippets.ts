// Lines of nginx's configuration that are written in a stack: nginx itself says whether it takes them, in the image, before anything is launched.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Image } from "../images/image.ts";
import { type Diagnostic, diagnostic } from "../lib/diagnostics.ts";
import { digestOf } from "../lib/digest.ts";
import { ledgerAt } from "../lib/ledger.ts";
import type { Project } from "../lib/paths.ts";
import { during, type Progress } from "../lib/progress.ts";
import type { HostModel, StackModel } from "./model.ts";
import { inImage } from "./release.ts";
import { site } from "./resources/site.ts";

const head = ["events {}", "http {", "server {", "listen 127.0.0.1:1;"];

/** What nginx refuses of the snippets of a host's sites. What it took once it is not asked again. */
export async function refusedSnippets(
  project: Project,
  model: StackModel,
  host: HostModel,
  image: Image,
  progress: Progress,
): Promise<Diagnostic[]> {
  const found: Diagnostic[] = [];
  for (const { id, name, value, path } of host.all(site)) {
    if (value.snippet === undefined) continue;
    const taken = join(project.cache, "snippets", digestOf([value.snippet, image.manifest.base]).slice(0, 16));
    if (existsSync(taken)) continue;
    const said = await during(progress, `nginx's opinion of the snippet of ${name}`, () => ask(project, value.snippet ?? "", image, id));
    mkdirSync(join(project.cache, "snippets"), { recursive: true });
    if (said === undefined) writeFileSync(taken, "");
    else found.push(diagnostic("ING1435", model.yaml.rangeOf([...path, "snippet"]), `nginx refuses the snippet of ${name}: ${said}`));
  }
  return found;
}

/** undefined: it takes it. */
async function ask(project: Project, snippet: string, image: Image, what: string): Promise<string | undefined> {
  mkdirSync(project.cache, { recursive: true });
  const ledger = ledgerAt(project.ledger);
  const work = mkdtempSync(join(project.cache, ".snippet-"));
  const entry = ledger.begin(`snippet-${digestOf(work).slice(0, 8)}`, `nginx -t for ${what}`);
  ledger.add(entry, { kind: "folder", path: work });
  try {
    writeFileSync(join(work, "nginx.conf"), [...head, snippet, "}", "}", ""].join("\n"));
    await inImage(image, work, "nginx.sh", {}, ["--private-network"]);
    if (readFileSync(join(work, "code"), "utf8").trim() === "0") return undefined;
    const said = readFileSync(join(work, "said"), "utf8");
    const line = /\[emerg\][^:]*: (.*) in \/build\/nginx\.conf:(\d+)/.exec(said);
    return line ? `line ${Number(line[2]) - head.length}: ${line[1]}` : said.trim();
  } finally {
    await ledger.undo(entry);
  }
}
