// Releases of applications: built once, on the operator's side, in a throw-away machine of the same image, and kept by what they are
// made from. `.ingot/cache/releases/<id>.tar.zst` beside `<id>.json`, which says its sha256. Their Python packages, installed and compiled, are
// kept beside them in `packages/`: most releases differ from the one before in the application alone.
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join } from "node:path";
import type { Image } from "../images/image.ts";
import { RefusedError } from "../lib/diagnostics.ts";
import { digestOf, sha256, sha256File } from "../lib/digest.ts";
import { ledgerAt } from "../lib/ledger.ts";
import { lockWhenFree } from "../lib/lock.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import { during, type Progress } from "../lib/progress.ts";
import { shell } from "../lib/quote.ts";
import { inStackFolder, type Release, type Resource } from "./kind.ts";
import type { HostModel } from "./model.ts";
import { type Application, commandOf, environmentOf } from "./resources/application.ts";
import { type SettingsFile, settingsFiles, settingsOf } from "./settings.ts";
import { fetchSource, sourceKey } from "./source.ts";

/** Raised when the same inputs would give another release although none of them changed. */
const method = 1;
const notBuilt = "0".repeat(64);

/** The environment of the build: as on the host, a placeholder for every secret. */
const buildEnvironment = (app: Resource<Application>, host: HostModel): string =>
  Object.entries(environmentOf(app, host))
    .map(([name, parts]) => `${name}=${shell(parts.map((p) => (typeof p === "string" ? p : "placeholder")).join(""))}\n`)
    .join("");

const buildSettings = (settings: SettingsFile, host: HostModel): string =>
  settingsOf(settings, host)
    .map((p) => (typeof p === "string" ? p : p.encode === "python" ? '"placeholder"' : "placeholder"))
    .join("");

const scripts = ["fetch.sh", "build.sh"].map((name) => join(toolFolder, "cloud-init/release", name));

/** What a release is made from, as one digest: sources, lock, commands and the image (or, before its lock exists, its name). */
export function releaseId(host: HostModel, app: Resource<Application>): string {
  const { npm, wheels } = app.value;
  const settings = settingsFiles(app);
  return digestOf({
    method,
    name: app.name,
    scripts: scripts.map((s) => sha256(readFileSync(s))),
    source: sourceKey(host, app.value.source),
    // Keys of later versions of Ingot: an application without them keeps its release.
    ...(npm !== undefined && { npm }),
    ...(wheels !== undefined && { wheels }),
    ...(settings.length && { settings: settings.map((s) => s.file) }),
    ...(app.value.static?.at !== undefined && { at: app.value.static.at }),
    python: app.value.python,
    static: app.value.static,
    environment: app.value.static ? buildEnvironment(app, host) : "",
    // What collects the static files may read the settings.
    ...(settings.length && app.value.static && { values: settings.map((s) => buildSettings(s, host)) }),
    image: host.image.base ?? host.image.name,
  }).slice(0, 16);
}

/** The release of this id, built or not. */
export function releaseAt(project: Project, id: string): Release {
  const path = join(project.cache, "releases", `${id}.tar.zst`);
  return {
    id,
    path,
    sha256: existsSync(path) ? (JSON.parse(readFileSync(recordOf(path), "utf8")) as { sha256: string }).sha256 : notBuilt,
  };
}

const recordOf = (path: string): string => path.replace(/\.tar\.zst$/, ".json");

/**
 * Builds the release unless it is there already; gives whether it was built.
 * @throws RunError when a command of the build fails
 */
export async function buildRelease(
  project: Project,
  host: HostModel,
  app: Resource<Application>,
  image: Image,
  progress: Progress,
): Promise<boolean> {
  const release = host.release(app.name);
  if (release.sha256 !== notBuilt) return false;
  const lock = await lockWhenFree(`release ${project.folder} ${release.id}`, `build of ${app.id}`, (holder) =>
    progress.say(`waiting for ${holder}`),
  );
  try {
    if (existsSync(release.path)) return false;
    await during(progress, `release of ${app.name}`, async (task) => {
      await build(project, host, app, image, release, (text) => task.note(text));
    });
    return true;
  } finally {
    lock.release();
  }
}

async function build(
  project: Project,
  host: HostModel,
  app: Resource<Application>,
  image: Image,
  release: Release,
  note: (text: string) => void,
): Promise<void> {
  const folder = join(project.cache, "releases");
  mkdirSync(folder, { recursive: true });
  const ledger = ledgerAt(project.ledger);
  const work = mkdtempSync(join(folder, `.work-${release.id}-`));
  const entry = ledger.begin(`release-${release.id}`, `build of ${app.id}`);
  ledger.add(entry, { kind: "folder", path: work });
  try {
    const source = join(work, "source");
    await fetchSource(project, host, app.value.source, source, note);
    for (const needed of [app.value.python, app.value.npm])
      if (needed !== undefined && !existsSync(join(source, needed)))
        throw new RefusedError(`there is no file \`${needed}\` in the sources of ${app.id}`);
    writeFileSync(join(work, "environment"), buildEnvironment(app, host));
    const settings = settingsFiles(app);
    mkdirSync(join(work, "settings"));
    for (const file of settings) writeFileSync(join(work, "settings", basename(file.path)), buildSettings(file, host));
    const environment = {
      RELEASE_NAME: app.name,
      RELEASE_ID: release.id,
      RELEASE_PYTHON: app.value.python ?? "",
      RELEASE_SETTINGS: settings.map((s) => `${s.path} ${s.file}`).join("\n"),
      RELEASE_STATIC_AT: app.value.static?.at ?? "",
      RELEASE_COLLECT: app.value.static ? commandOf(app.value.static.collect).join("\n") : "",
      RELEASE_COMPRESS: app.value.static?.compress.join(" ") ?? "",
    };
    const packages = app.value.python && packagesAt(project, host, app, join(source, app.value.python));
    if (packages && existsSync(packages)) cpSync(packages, join(work, "packages.tar.zst"));
    else if (app.value.python) {
      note("Python packages");
      if (app.value.wheels !== undefined) cpSync(inStackFolder(host, app.value.wheels), join(work, "wheels"), { recursive: true });
      else await fetchWheels(project, image, work, join(source, app.value.python), environment);
    }
    if (app.value.npm) {
      note("npm packages");
      await installNpm(join(source, dirname(app.value.npm)));
    }
    note("building");
    await inImage(image, work, "build.sh", environment, ["--private-network"]);
    if (packages && !existsSync(packages)) {
      mkdirSync(dirname(packages), { recursive: true });
      renameSync(join(work, "packages.tar.zst"), packages);
    }
    const archive = join(work, "release.tar.zst");
    const record = { sha256: await sha256File(archive), application: app.id, image: image.digest };
    writeFileSync(recordOf(release.path), `${JSON.stringify(record)}\n`);
    renameSync(archive, release.path);
  } finally {
    await ledger.undo(entry);
  }
}

/** With this computer's own npm, which Ingot runs beside: exactly the lock, and none of the packages' scripts. */
async function installNpm(folder: string): Promise<void> {
  const { run } = await import("../lib/run.ts");
  await run(["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: folder,
    timeoutSeconds: 900,
  });
}

/** What build.sh has installed and compiled of a lock file's packages, kept for the next release with the same lock. */
const packagesAt = (project: Project, host: HostModel, app: Resource<Application>, lockFile: string): string => {
  const image = host.image.base ?? host.image.name;
  const key = digestOf([method, ...scripts.map((s) => sha256(readFileSync(s))), app.name, sha256(readFileSync(lockFile)), image]);
  return join(project.cache, "packages", `${key.slice(0, 16)}.tar.zst`);
};

/** The wheels of a lock file, fetched once for each lock and Python. */
async function fetchWheels(
  project: Project,
  image: Image,
  work: string,
  lockFile: string,
  environment: Record<string, string>,
): Promise<void> {
  const key = digestOf([sha256(readFileSync(lockFile)), image.manifest.versions.python]).slice(0, 16);
  const kept = join(project.cache, "wheels", key);
  const wheels = join(work, "wheels");
  if (!existsSync(kept)) {
    mkdirSync(wheels);
    const network = pipSettings(work);
    await inImage(image, work, "fetch.sh", { ...environment, ...network }, ["--resolv-conf=copy-host"]);
    mkdirSync(join(project.cache, "wheels"), { recursive: true });
    cpSync(wheels, `${kept}.${process.pid}`, { recursive: true });
    if (existsSync(kept)) rmSync(`${kept}.${process.pid}`, { recursive: true });
    else renameSync(`${kept}.${process.pid}`, kept);
  } else cpSync(kept, wheels, { recursive: true });
}

/** This computer's own way to its package index: pip's settings and certificates, copied into the build's folder. */
function pipSettings(work: string): Record<string, string> {
  const authorities = [process.env.PIP_CERT, process.env.SSL_CERT_FILE, "/etc/ssl/certs/ca-certificates.crt"].find(
    (f) => f && existsSync(f),
  );
  if (authorities) cpSync(authorities, join(work, "ca-certificates.crt"), { dereference: true });
  const settings = [
    process.env.PIP_CONFIG_FILE,
    join(homedir(), ".config/pip/pip.conf"),
    join(homedir(), ".pip/pip.conf"),
    "/etc/pip.conf",
  ].find((f) => f && existsSync(f));
  if (settings) {
    cpSync(settings, join(work, "pip.conf"), { dereference: true });
    chmodSync(join(work, "pip.conf"), 0o600);
  }
  const passed = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
  ];
  return Object.fromEntries(passed.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
}

/** Runs one of our scripts (cloud-init/release/) in a throw-away machine: the image under an overlay in memory, /build the only thing that stays. */
export async function inImage(
  image: Image,
  work: string,
  script: string,
  environment: Record<string, string>,
  network: string[],
): Promise<void> {
  const { asRoot, run } = await import("../lib/run.ts");
  await run(
    asRoot([
      "sh",
      join(toolFolder, "cloud-init/release/machine.sh"),
      image.root,
      work,
      join(toolFolder, "cloud-init/release", script),
      String(process.getuid?.() ?? 0),
      String(process.getgid?.() ?? 0),
      ...network,
      ...Object.entries(environment).map(([k, v]) => `--setenv=${k}=${v}`),
    ]),
  );
}
