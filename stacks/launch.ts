// From a stack's file to verified machines: bake what is not baked, build what is not built, launch, wait, prove. And `apply`, which
// brings a running machine to what the stack says now, by the same generation.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compile, planJson } from "../cloud-init/compile.ts";
import { otherArchives } from "../cloud-init/docker-images.ts";
import { type HostModel, loadStack, type StackModel } from "../cloud-init/model.ts";
import { generationFrom } from "../cloud-init/part.ts";
import type { Generation, HostPlan, StackPlan, Step } from "../cloud-init/plan.ts";
import { buildRelease } from "../cloud-init/release.ts";
import { application } from "../cloud-init/resources/application.ts";
import { refusedSnippets } from "../cloud-init/snippets.ts";
import { fetched } from "../cloud-init/source.ts";
import { surroundingsOf } from "../cloud-init/surroundings.ts";
import { limit, userDataOf } from "../cloud-init/user-data.ts";
import { bake } from "../images/bake.ts";
import type { Image } from "../images/image.ts";
import { imageAt } from "../images/store.ts";
import { type Diagnostic, diagnostic, InputError, RefusedError } from "../lib/diagnostics.ts";
import { sha256, short } from "../lib/digest.ts";
import { type Project, toolFolder } from "../lib/paths.ts";
import type { Progress } from "../lib/progress.ts";
import { secretsOf } from "./secrets.ts";
import type { ActivationEvent, Connection, ExecResult, HostInput, Machine, StepEvent, Target, TargetEvent } from "./target.ts";

export interface Prepared {
  model: StackModel;
  plan: StackPlan;
  hosts: HostInput[];
  /** What this run baked and built; what was there already is not in it. */
  baked: { image: Image; seconds: number }[];
  built: string[];
}

/** What an apply asks of prepare() otherwise than a launch. */
export interface Running {
  /** Recipe name → digest of the image that running machines have: they are brought to the stack, not to another image. */
  pinned: Record<string, string>;
  /** Whether a resource is meant, when not all are: a release that is not is not built. */
  meant: (host: string, resource: string) => boolean;
}

/**
 * Everything that a launch or an apply needs, made if it is not there.
 * @throws InputError before anything is made
 */
export async function prepare(
  project: Project,
  file: string,
  target: Pick<Target, "secrets" | "spills">,
  progress: Progress,
  { pinned, meant }: Running = { pinned: {}, meant: () => true },
): Promise<Prepared> {
  const first = loadStack(file, surroundingsOf(project, pinned));
  compile(first); // what cannot be written is said before anything is made
  refuse(first, await otherArchives(first));
  const images = new Map<string, Image>();
  const baked: Prepared["baked"] = [];
  for (const name of new Set(first.hosts.map((h) => h.image.name))) {
    const there = pinned[name] === undefined ? undefined : imageAt(project, pinned[name]);
    if (pinned[name] !== undefined && !there)
      throw new RefusedError(
        `the image ${short(pinned[name])} of the running machines is no longer in the store`,
        "`ingot down` and `ingot up` launch them anew",
      );
    const result = there ? { image: there, baked: false, seconds: 0 } : await bake(project, name, { progress });
    images.set(name, result.image);
    if (result.baked) baked.push({ image: result.image, seconds: result.seconds });
  }
  // What was held against recipe and lock alone is held against the manifest now.
  const model = first.hosts.every(knowsManifest) ? first : loadStack(file, surroundingsOf(project, pinned));
  const built: string[] = [];
  for (const host of model.hosts) {
    const image = imageOf(images, host.image.name);
    for (const app of host.all(application))
      if (meant(host.name, app.id) && (await buildRelease(project, host, app, image, progress))) built.push(app.id);
  }
  const refused: Diagnostic[] = [];
  for (const host of model.hosts)
    refused.push(...(await refusedSnippets(project, model, host, imageOf(images, host.image.name), progress)));
  refuse(model, refused);
  const plan = compile(model);
  for (const { host, artifacts } of plan.hosts)
    for (const artifact of artifacts)
      if (artifact.url !== undefined && meant(host, artifact.resource))
        artifact.path = await fetched(project, artifact.url, artifact.sha256, (text) => progress.say(`  ${text}`));
  const hosts: HostInput[] = [];
  for (const host of plan.hosts) {
    const userData = userDataOf(host, target.spills ? "spills" : "stays");
    if (userData.bytes.length > limit)
      throw new RefusedError(
        `the user-data of ${host.host} has ${userData.bytes.length} bytes; EC2 takes ${limit}`,
        `\`ingot render ${plan.stack}\` shows who takes them`,
      );
    hosts.push({ plan: host, image: imageOf(images, host.image.name), userData, secrets: await secretsOf(target.secrets, host) });
  }
  return { model, plan, hosts, baked, built };
}

function refuse(model: StackModel, found: Diagnostic[]): void {
  if (found.length) throw new InputError(found, new Map([[model.yaml.file, model.yaml.text]]));
}

/** A manifest says which units there are; a lock does not. */
const knowsManifest = (host: HostModel): boolean => host.image.units !== undefined;

function imageOf(images: Map<string, Image>, name: string): Image {
  const image = images.get(name);
  if (!image) throw new Error(`no image ${name}`);
  return image;
}

/** How one host's activation went. */
export interface HostOutcome {
  host: string;
  steps: StepEvent[];
  activation?: ActivationEvent;
  /** The machine itself failed. */
  lost?: { reason: string; console: string };
}
export const succeeded = (outcome: HostOutcome): boolean => outcome.activation?.outcome === "done" && !outcome.lost;

/** Gathers a target's events by host, showing each step as it ends. `title`: what goes on, for people. */
export async function gather(
  title: string,
  hosts: { host: string; generation: { steps: Step[] } }[],
  events: AsyncIterable<TargetEvent>,
  progress: Progress,
): Promise<HostOutcome[]> {
  const outcomes = new Map(hosts.map((h): [string, HostOutcome] => [h.host, { host: h.host, steps: [] }]));
  const total = hosts.reduce((n, h) => n + h.generation.steps.length, 0);
  const task = progress.start(title);
  let ended = 0;
  try {
    for await (const event of events) {
      const outcome = outcomes.get(event.host);
      if (!outcome) continue;
      const prefix = hosts.length > 1 ? `${event.host}: ` : "";
      if (event.event === "machine") progress.say(`  ${prefix}${event.text}`);
      else if (event.event === "step") {
        outcome.steps.push(event.step);
        progress.detail(`  ${event.step.outcome.padEnd(9)} ${prefix}${event.step.step} (${event.step.seconds.toFixed(1)} s)`);
        task.note(`${++ended} of ${total} steps, last ${prefix}${event.step.step}`);
      } else if (event.event === "activated") outcome.activation = event.activation;
      else outcome.lost = { reason: event.reason, console: event.console };
    }
  } catch (error) {
    task.failed();
    throw error;
  }
  const all = [...outcomes.values()];
  if (all.every(succeeded)) task.done(`${total} steps`);
  else task.failed(`${ended} of ${total} steps`);
  return all;
}

/** What failed, said at the line of the YAML that asked for it. Codes ING3001 (a step), ING3002 (the machine itself) and ING3003 (the generation). */
export const failures = (hosts: HostPlan[], outcomes: HostOutcome[]): Diagnostic[] =>
  outcomes.flatMap((outcome) => hosts.filter((h) => h.host === outcome.host).flatMap((host) => failuresOf(host, outcome)));

function failuresOf(plan: HostPlan, outcome: HostOutcome): Diagnostic[] {
  const found: Diagnostic[] = [];
  const hostRange = plan.origins.hostname;
  if (outcome.lost && hostRange) {
    found.push(
      diagnostic("ING3002", hostRange, `the machine ${plan.stack}/${plan.host} never became what it should: ${outcome.lost.reason}`, {
        hint: tail("the end of its console", outcome.lost.console),
      }),
    );
  }
  if (outcome.activation?.error && hostRange) {
    found.push(diagnostic("ING3003", hostRange, `${plan.stack}/${plan.host} refused its generation: ${outcome.activation.error}`));
  }
  for (const step of outcome.steps) {
    if (step.outcome !== "failed" && step.outcome !== "timeout") continue;
    const resource = plan.generation.steps.find((s) => s.id === step.step)?.resource ?? "";
    const range = plan.origins[resource] ?? hostRange;
    if (!range) continue;
    const waiting = dependents(plan, step.step).filter((id) => outcome.steps.some((s) => s.step === id && s.outcome === "not-run"));
    const what =
      step.outcome === "timeout"
        ? `did not end within ${plan.generation.steps.find((s) => s.id === step.step)?.timeoutSeconds} s`
        : "failed";
    found.push(
      diagnostic("ING3001", range, `${step.step} ${what}${waiting.length ? `; not run because of it: ${waiting.join(", ")}` : ""}`, {
        hint: `${tail("the end of its log", step.log ?? "")}\n  the whole: ingot logs ${plan.stack}/${plan.host} ${resource}`,
      }),
    );
  }
  return found;
}

/** Every step that waits for `id`, directly or not, in the plan's order. */
function dependents({ generation }: HostPlan, id: string): string[] {
  const found = new Set([id]);
  for (let before = 0; before !== found.size; ) {
    before = found.size;
    for (const step of generation.steps) if (step.after.some((a) => found.has(a))) found.add(step.id);
  }
  return generation.steps.map((s) => s.id).filter((s) => s !== id && found.has(s));
}

/** The activator and the actions are the image's; on a machine of an older image they are brought to this version first. */
async function bringTools(connection: Connection, image: Image): Promise<void> {
  const folder = join(toolFolder, "cloud-init/host");
  const own = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(
    (f) => statSync(join(folder, f)).isFile() && !/^(units|udev)\//.test(f) && !f.includes("__pycache__"),
  );
  if (own.some((f) => image.manifest.files[`/usr/lib/ingot/${f}`] !== sha256(readFileSync(join(folder, f)))))
    await connection.copy(folder, "/usr/lib/ingot");
}

const tail = (title: string, log: string): string =>
  `${title}:\n${log
    .trimEnd()
    .split("\n")
    .slice(-20)
    .map((l) => `    ${l}`)
    .join("\n")}`;

/** What an activation would do on a machine. */
export interface Foreseen {
  files: { path: string; change: "new" | "changed" | "removed"; diff: string }[];
  steps: { step: string; outcome: "pending" | "unchanged" | "failed"; log?: string }[];
}

/** The generation lies on the machine; gives its folder there. */
async function bringGeneration(connection: Connection, { plan: { generation } }: HostInput): Promise<string> {
  const there = `/var/lib/ingot/generations/${generation.digest}`;
  const folder = mkdtempSync(join(tmpdir(), "ingot-generation-"));
  try {
    mkdirSync(join(folder, generation.digest, "files"), { recursive: true });
    writeFileSync(join(folder, generation.digest, "plan.json"), planJson(generation));
    for (const file of generation.files) writeFileSync(join(folder, generation.digest, "files", sha256(file.content)), file.content);
    await connection.copy(join(folder, generation.digest), there);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return there;
}

/** Asks a running machine what the generation of a plan would change on it. Ingot's own programs are brought there; nothing else changes. */
export async function foreseeOn(machine: Machine, connection: Connection, input: HostInput): Promise<Foreseen> {
  const { digest } = input.plan.generation;
  await bringTools(connection, input.image);
  const known = (await connection.exec(["test", "-e", `/var/lib/ingot/generations/${digest}/plan.json`])).code === 0;
  const there = await bringGeneration(connection, input);
  const { code, stdout, stderr } = await connection.exec(["/usr/lib/ingot/activate", "--check", digest]);
  if (!known) await connection.exec(["rm", "-rf", there]);
  if (code !== 0) throw new RefusedError(`${machine.stack}/${machine.host} could not be asked what would change: ${stderr.trim()}`);
  return JSON.parse(stdout) as Foreseen;
}

/** Copies the generation of a plan onto a running machine that its target has refreshed, and activates it; its events are those of a first boot. */
export async function* activate(machine: Machine, connection: Connection, input: HostInput, how: Activating): AsyncIterable<TargetEvent> {
  await bringTools(connection, input.image);
  await bringGeneration(connection, input);
  yield* activateThere(machine, connection, input.plan.generation.digest, how);
}

export interface Activating {
  /** What asked for it, for the machine's history: "apply live/web". */
  by: string;
  /** Told that another activation is waited for. */
  say: (text: string) => void;
}

/** A generation that a machine has been. */
export interface Past {
  generation: string;
  /** ISO 8601. */
  at: string;
  /** What asked for it: "apply live/web", "rollback live". */
  by?: string;
}

/** What a machine has been since it was launched, the last one what it is; also what it can no longer go back to. */
export async function historyOf({ exec }: Pick<Connection, "exec">): Promise<Past[]> {
  const { stdout } = await exec(["sh", "-c", "cat /var/lib/ingot/history.jsonl 2>/dev/null || true"]);
  return stdout.split("\n").flatMap((line) => (line ? [JSON.parse(line) as Past] : []));
}

/** A release of an application that is on a machine. */
export interface ReleaseThere {
  application: string;
  release: string;
  live: boolean;
  /** A rollback would make it live again. */
  rollback: boolean;
  /** ISO 8601: when it went live last, or was unpacked. */
  at: string;
  bytes: number;
  /** What it was made from, for people. */
  source: string;
}

/** @throws RefusedError when the machine's Ingot is older than this */
export async function releasesOn(machine: Machine, connection: Connection): Promise<ReleaseThere[]> {
  const { code, stdout, stderr } = await connection.exec(["/usr/lib/ingot/releases"]);
  if (code === 0) return JSON.parse(stdout) as ReleaseThere[];
  throw new RefusedError(
    `${machine.stack}/${machine.host} cannot be asked for its releases: ${stderr.trim()}`,
    `\`ingot apply ${machine.stack}\` brings Ingot's own programs to this version`,
  );
}

/** What a machine has become last, once no activation runs there; undefined when it has not become anything. `known`: what it may well be. */
export async function generationNow(
  machine: Machine,
  connection: Connection,
  known: Generation,
  say: (text: string) => void,
): Promise<Generation | undefined> {
  const digest = (await historyOf({ exec: (command) => whenFree(machine, connection, say, command) })).at(-1)?.generation;
  if (digest === undefined) return undefined;
  return digest === known.digest ? known : generationThere(machine, connection, digest);
}

/** A generation that is on a machine. @throws RefusedError when it is not there any more */
export async function generationThere(machine: Machine, connection: Connection, digest: string): Promise<Generation> {
  const there = `/var/lib/ingot/generations/${digest}`;
  if ((await connection.exec(["test", "-e", `${there}/plan.json`])).code !== 0)
    throw new RefusedError(
      `${machine.stack}/${machine.host} has no generation ${short(digest)} any more`,
      `it keeps the last ten: ingot history ${machine.stack}`,
    );
  const folder = mkdtempSync(join(tmpdir(), "ingot-generation-"));
  try {
    await connection.fetch(there, folder);
    const own = join(folder, digest);
    return generationFrom(readFileSync(join(own, "plan.json"), "utf8"), (name) => readFileSync(join(own, "files", name), "utf8"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const lockThere = "/var/lib/ingot/lock";
const reportThere = "/run/ingot/report/steps.jsonl";

/** Runs a command on the machine while no activation does; waits for the one that runs there, and says so. */
async function whenFree(machine: Machine, connection: Connection, say: (text: string) => void, command: string[]): Promise<ExecResult> {
  for (let waiting = 0; ; waiting = 20) {
    const lock = ["flock", "--timeout", String(waiting), "--conflict-exit-code", "3", lockThere];
    const result = await connection.exec([...lock, ...command]);
    const { code, stderr } = result;
    if (code === 0) return result;
    if (code !== 3) throw new RefusedError(`${machine.stack}/${machine.host} cannot be asked whether it is free: ${stderr.trim()}`);
    if (waiting === 0) say(`  waiting for the activation that runs on ${machine.stack}/${machine.host}`);
  }
}

/** Activates a generation that is on a machine already. */
export async function* activateThere(
  machine: Machine,
  connection: Connection,
  digest: string,
  how: Activating,
): AsyncIterable<TargetEvent> {
  // What an earlier activation reported must not be taken for this one's.
  await whenFree(machine, connection, how.say, ["rm", "-f", reportThere]);
  const running = connection.exec(["/usr/lib/ingot/activate", "--by", how.by, digest]);
  const events = connection.follow()[Symbol.asyncIterator]();
  try {
    let waiting: Promise<"ended" | "over"> = running.then(() => "ended");
    let coming = events.next();
    for (;;) {
      const next = await Promise.race([coming, waiting]);
      // It has ended: what it still reported is there already, or never comes.
      // Nobody waits for this second once it has come.
      if (next === "ended") waiting = new Promise((resolve) => setTimeout(() => resolve("over"), 1000).unref());
      else if (next === "over" || next.done) break;
      else {
        yield next.value;
        if (next.value.event === "activated" || next.value.event === "lost") break;
        coming = events.next();
      }
    }
  } finally {
    await events.return?.();
  }
  const result = await running;
  // Another was quicker.
  if (result.code === 3) return yield* activateThere(machine, connection, digest, how);
  if (result.code !== 0 && result.code !== 1)
    throw new RefusedError(
      `the activation on ${machine.stack}/${machine.host} ended with exit code ${result.code}\n${result.stderr.trim().split("\n").slice(-15).join("\n")}`,
    );
}
