// The `ingot` command: finds the command's file, and turns what it throws into messages and exit codes.
// 0 fine, 1 the thing asked for failed or was refused, 2 the input is wrong, 3 this computer lacks something, 130/143 stopped.
import { Cancelled, listenForSignals } from "../lib/cancel.ts";
import { format, InputError, MissingError, nearest, RefusedError, UsageError } from "../lib/diagnostics.ts";
import { type Chosen, findProject } from "../lib/paths.ts";
import { progressOn } from "../lib/progress.ts";
import type { Command, Io } from "./command.ts";

const commands: Record<string, { summary: string; load: () => Promise<Command> }> = {
  start: { summary: "bake, launch and verify the example stack: the first thing to try", load: () => import("./start.ts") },
  validate: { summary: "say everything that is wrong in stacks and recipes", load: () => import("./validate.ts") },
  plan: { summary: "what a stack becomes: steps, files, secrets, ports, checks", load: () => import("./plan.ts") },
  explain: { summary: "where each value of a stack comes from", load: () => import("./explain.ts") },
  render: { summary: "the user-data that a stack's machines get, with its size", load: () => import("./render.ts") },
  image: { summary: "lock, plan, bake, compare and verify images, and prune their store", load: () => import("./image.ts") },
  bake: { summary: "short for `image bake`", load: () => import("./bake.ts") },
  up: { summary: "launch a stack, wait for its first boot, verify it", load: () => import("./up.ts") },
  status: { summary: "which machines there are, and how they are", load: () => import("./status.ts") },
  verify: { summary: "run a stack's checks against its running machines", load: () => import("./verify.ts") },
  apply: { summary: "bring running machines to what the stack says now; what fails is taken back", load: () => import("./apply.ts") },
  deploy: { summary: "bring an application's release, and prove it; what fails is taken back", load: () => import("./deploy.ts") },
  releases: { summary: "which releases of applications are on machines", load: () => import("./releases.ts") },
  rollback: { summary: "make machines again what they were before", load: () => import("./rollback.ts") },
  history: { summary: "what machines have been, and can be again", load: () => import("./history.ts") },
  doctor: { summary: "what is dead, who depends on it, and what to type next", load: () => import("./doctor.ts") },
  backup: { summary: "make backups of what a stack's hosts hold, now", load: () => import("./backup.ts") },
  backups: { summary: "which backups there are, what a lost disk would cost, and what is late", load: () => import("./backups.ts") },
  rebuild: { summary: "bring a lost host back, with its data", load: () => import("./rebuild.ts") },
  drill: { summary: "make a stack anew from its backups, beside itself, and prove it", load: () => import("./drill.ts") },
  runbook: { summary: "how a stack's hosts are made by hand, as pages to print", load: () => import("./runbook.ts") },
  exec: { summary: "run a command on a machine", load: () => import("./exec.ts") },
  logs: { summary: "what a machine, or one resource of it, wrote", load: () => import("./logs.ts") },
  ssh: { summary: "a terminal on a machine, or a command with its streams", load: () => import("./ssh.ts") },
  cp: { summary: "copy files to a machine, or from it", load: () => import("./cp.ts") },
  stop: { summary: "power a stack's machines off, and keep them", load: () => import("./stop.ts") },
  down: { summary: "end a stack's machines; its data stays", load: () => import("./down.ts") },
  gc: { summary: "undo what an interrupted run left behind", load: () => import("./gc.ts") },
};

const overview = `ingot: one YAML declaration of a host becomes a golden image, its first boot, a running machine and the proof.

  ingot <command> [arguments] [--on vm|aws] [--env <environment>] [--set <variable>=<value>] [--json]

${Object.entries(commands)
  .map(([name, c]) => `  ${name.padEnd(9)} ${c.summary}`)
  .join("\n")}

\`ingot <command> --help\` says more. A stack is given by its name or its file. Commands work in any folder
that has images/ and stacks/, or below it.`;

/** The target of this run, once it is known. */
let where: Io["on"] = "container";

async function main(argv: string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === "help" || name === "--help" || name === "-h") {
    const topic = name === "help" ? commands[rest[0] ?? ""] : undefined;
    console.log(topic ? (await topic.load()).help : overview);
    return name === undefined ? 2 : 0;
  }
  const command = commands[name];
  if (!command) {
    const near = nearest(name, Object.keys(commands));
    console.error(`ingot: there is no command \`${name}\`${near ? `; did you mean \`${near}\`?` : ""}\n\n${overview}`);
    return 2;
  }
  const { help, main: run } = await command.load();
  const end = rest.indexOf("--");
  const own = end < 0 ? rest : rest.slice(0, end);
  if (own.includes("--help") || own.includes("-h")) {
    console.log(help);
    return 0;
  }
  const json = own.includes("--json");
  const { on, others: unplaced } = whereOf(own.filter((a) => a !== "--json"));
  const { chosen, others } = chosenOf(unplaced);
  where = on;
  const io: Io = {
    json,
    on,
    project: { ...findProject(), chosen },
    progress: progressOn(),
    print: (text) => void process.stdout.write(`${text}\n`),
  };
  return run([...others, ...(end < 0 ? [] : rest.slice(end))], io);
}

/** `--on <target>` may stand anywhere before `--`; INGOT_ON says it for all commands. */
function whereOf(args: string[]): { on: Io["on"]; others: string[] } {
  const at = args.findIndex((a) => a === "--on" || a.startsWith("--on="));
  const [option = "", next] = at < 0 ? [] : args.slice(at);
  const given = at < 0 ? process.env.INGOT_ON || "container" : option === "--on" ? next : option.slice("--on=".length);
  if (given !== "container" && given !== "vm" && given !== "aws")
    throw new UsageError(`there is no target \`${given ?? ""}\``, "--on container, --on vm, or --on aws");
  return { on: given, others: at < 0 ? args : args.filter((_, i) => i !== at && !(option === "--on" && i === at + 1)) };
}

/** `--env <name>` and `--set <variable>=<value>`, of every command that reads a stack; INGOT_ENV says the one for all commands. */
function chosenOf(args: string[]): { chosen: Chosen; others: string[] } {
  const chosen: Chosen = { ...(process.env.INGOT_ENV && { environment: process.env.INGOT_ENV }), set: [] };
  const others: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const [, option, value] = /^--(env|set)(?:=([\s\S]*))?$/.exec(args[i] ?? "") ?? [];
    if (option === undefined) {
      others.push(args[i] ?? "");
      continue;
    }
    const given = value ?? args[++i];
    if (given === undefined)
      throw new UsageError(`--${option} of what?`, option === "env" ? "--env <environment>" : "--set <variable>=<value>");
    if (option === "env") chosen.environment = given;
    else chosen.set.push(given);
  }
  return { chosen, others };
}

function report(error: unknown, json: boolean): number {
  const say = (code: number, name: string, message: string, hint?: string) => {
    if (json) console.log(JSON.stringify({ error: { name, message, hint } }, null, 2));
    else console.error(`ingot: ${message}${hint ? `\n  hint: ${hint}` : ""}`);
    return code;
  };
  if (error instanceof InputError) {
    if (json) console.log(JSON.stringify({ diagnostics: error.diagnostics }, null, 2));
    else console.error(error.diagnostics.map((d) => format(d, error.sources, process.stderr.isTTY)).join("\n\n"));
    return 2;
  }
  if (error instanceof MissingError) return say(3, "missing", error.message, `install it: ${error.mend}`);
  if (error instanceof UsageError) return say(2, "usage", error.message, error.usage);
  if (error instanceof RefusedError) return say(1, "refused", error.message, error.hint);
  if (error instanceof Cancelled)
    return say(
      error.signal === "SIGTERM" ? 143 : 130,
      "stopped",
      error.left !== undefined ? `stopped; ${error.left}` : where === "aws" ? "stopped" : "stopped; what was begun has been undone",
    );
  if (error instanceof TypeError && (error as NodeJS.ErrnoException).code?.startsWith("ERR_PARSE_ARGS"))
    return say(2, "usage", error.message.split(". To specify")[0] ?? error.message, "see --help");
  if (error instanceof Error && error.name === "RunError") return say(1, "failed", error.message);
  if (process.env.INGOT_DEBUG || !(error instanceof Error)) console.error(error);
  return say(1, "failed", error instanceof Error ? error.message : String(error), "INGOT_DEBUG=1 shows where");
}

listenForSignals();
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0); // `ingot … | head`
});
const argv = process.argv.slice(2);
process.exitCode = await main(argv).catch((error: unknown) => report(error, argv.includes("--json")));
