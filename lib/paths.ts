// The one place that knows where things are. The tool's own folder and the user's project folder are two different things.
import { existsSync, realpathSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { RefusedError } from "./diagnostics.ts";

/** The folder of Ingot itself: where package.json, cloud-init/host/ and images/provision/ are. */
export const toolFolder: string = (() => {
  let folder = dirname(realpathSync(fileURLToPath(import.meta.url)));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
})();

/** What a project's folders and Ingot's state in it are called. All absolute. */
export interface Project {
  folder: string;
  images: string;
  stacks: string;
  /** `.ingot/`: the caller's own (0700 where secrets are); never in git. */
  state: string;
  secrets: string;
  ledger: string;
  /** Baked images, by digest. */
  store: string;
  /** Downloads that can be had again: .debs and wheels by sha256, releases by id, their packages by lock. */
  cache: string;
  /** One folder for each running machine. */
  machines: string;
  /** Disks of data volumes: they outlive machines. */
  volumes: string;
  /** What runs here stands beside the project's own machines, and has other names on this computer (besideOf). */
  beside?: "drill";
  /** Which of the project's stacks' variants is meant. @default as their files have it */
  chosen?: Chosen;
}

/** What a person says of a stack's variables, `--env <name>` and `--set <variable>=<value>`, and of an application's sources: `deploy --ref`. */
export interface Chosen {
  environment?: string;
  set: string[];
  /** Application → the commit that is built in place of the stack's. */
  commits?: Record<string, ChosenCommit>;
}

export interface ChosenCommit {
  /** In full. */
  commit: string;
  /** The branch or tag that it is on. */
  ref?: string;
  /** As it was asked for. */
  asked: string;
}

/**
 * The project that holds `from`: the nearest folder upwards with `images/` and `stacks/` in it.
 * @throws RefusedError when there is none
 */
export function findProject(from: string = process.cwd()): Project {
  for (let folder = resolve(from); ; folder = dirname(folder)) {
    if (existsSync(join(folder, "images")) && existsSync(join(folder, "stacks"))) return projectAt(folder);
    if (folder === dirname(folder)) {
      throw new RefusedError(
        `no project here: neither ${resolve(from)} nor a folder above it has images/ and stacks/`,
        "go to your project's folder, or make both folders there",
      );
    }
  }
}

/** The same project with machines, volumes and a ledger of its own, where a stack stands beside itself: same stacks, images and secrets. */
export function besideOf(project: Project, stack: string): Project {
  const folder = join(project.state, "drills", stack);
  return {
    ...project,
    ledger: join(folder, "ledger"),
    machines: join(folder, "machines"),
    volumes: join(folder, "volumes"),
    beside: "drill",
  };
}

export function projectAt(folder: string): Project {
  const state = join(folder, ".ingot");
  return {
    folder,
    images: join(folder, "images"),
    stacks: join(folder, "stacks"),
    state,
    secrets: join(state, "secrets"),
    ledger: join(state, "ledger"),
    store: join(state, "images"),
    cache: join(state, "cache"),
    machines: join(state, "machines"),
    volumes: join(state, "volumes"),
  };
}
