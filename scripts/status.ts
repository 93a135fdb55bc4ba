// ingot status: which machines there are, and how they are.
import { parseArgs } from "node:util";
import { compile } from "../cloud-init/compile.ts";
import { findStack, loadStack } from "../cloud-init/model.ts";
import type { HostPlan } from "../cloud-init/plan.ts";
import { surroundingsOf } from "../cloud-init/surroundings.ts";
import { Cancelled } from "../lib/cancel.ts";
import { InputError, RefusedError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { age, type BackupSettings, backupSettings, backupsOn } from "../stacks/recovery/backups.ts";
import { type Drill, drillsOf, drillText, lateDrill } from "../stacks/recovery/drill.ts";
import { publicSshKey, type SecretStore } from "../stacks/secrets.ts";
import type { Machine, Target } from "../stacks/target.ts";
import { type Io, table } from "./command.ts";
import { notUp, targetOf } from "./machines.ts";
import { only, stackName } from "./stack.ts";

export const help = `Says which machines there are: state, image, generation, address, and where their ports answer on this computer; and the
public halves of the keys that their users were given by \`ssh_key: generate\`, for whoever is to let them in. Of hosts that have \`backup:\` also
how old the last one is, what a lost disk would cost now (RPO), what is late, and the last drill.

  ingot status [stack]

With a stack that is not up the exit code is 1.`;

/** Seconds that a machine may take to say what its backups are. */
const askedSeconds = 5;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const given = positionals.length ? only(positionals, "stack", "ingot status [stack]") : undefined;
  const target = await targetOf(io, given);
  const all = await target.find();
  const stack =
    given === undefined
      ? undefined
      : stackName(
          given,
          all.map((m) => m.stack),
          io,
        );
  const machines = all.filter((m) => stack === undefined || m.stack === stack);
  const plans = new Map([...new Set(machines.map((m) => m.stack))].map((name) => [name, hostsOf(given ?? name, io)] as const));
  const [keys, kept] = await Promise.all([
    Promise.all([...plans].map(([name, hosts]) => keysOf(name, hosts, target.secrets))).then((found) => found.flat()),
    Promise.all(machines.map((m) => keptOf(m, plans.get(m.stack) ?? [], target, io))).then((found) => found.flat()),
  ]);
  if (io.json)
    io.print(
      JSON.stringify(
        machines.map((m) => ({
          ...m,
          ...kept.find((k) => k.machine === m)?.said,
          keys: Object.fromEntries(keys.filter((k) => k.stack === m.stack && k.host === m.host).map((k) => [k.user, k.key])),
        })),
        null,
        2,
      ),
    );
  else if (!machines.length) {
    const { message, hint } = notUp(io, stack);
    io.print(`${message}; ${hint}`);
  } else {
    io.print(
      table([
        ["machine", "state", "image", "generation", "address", "since", "on this computer"],
        ...machines.map((m) => [
          `${m.stack}/${m.host}${machines.filter((o) => o.stack === m.stack && o.host === m.host).length > 1 ? ` ${m.instance}` : ""}`,
          m.state,
          short(m.imageDigest),
          short(m.generation),
          m.address,
          m.began,
          Object.entries(m.forwards)
            .map(([port, at]) => `${port} at ${at}`)
            .join(", "),
        ]),
      ]),
    );
  }
  if (!io.json && kept.length) io.print(`\n${kept.map(keptText).join("\n")}`);
  if (!io.json && keys.length)
    io.print(`\n${table([["machine", "user", "public key"], ...keys.map((k) => [`${k.stack}/${k.host}`, k.user, k.key])])}`);
  return stack && !machines.length ? 1 : 0;
}

interface UserKey {
  stack: string;
  host: string;
  user: string;
  key: string;
}

/** The hosts of a stack's file; none of one that is gone or wrong, because its machines are there all the same. */
function hostsOf(file: string, io: Io): HostPlan[] {
  try {
    return compile(loadStack(findStack(io.project, file), surroundingsOf(io.project))).hosts;
  } catch (error) {
    if (error instanceof InputError || error instanceof RefusedError) return [];
    throw error;
  }
}

/** The keys that the users of a stack were given. */
async function keysOf(stack: string, hosts: HostPlan[], store: SecretStore): Promise<UserKey[]> {
  const found = hosts.flatMap(({ host, secrets }) =>
    secrets.flatMap(({ name, generate, resource }) =>
      generate === "ssh-ed25519" && resource.startsWith("user/") ? [{ host, name, user: resource.slice("user/".length) }] : [],
    ),
  );
  const keys = await Promise.all(
    found.map(async ({ host, name, user }): Promise<UserKey[]> => {
      const value = await store.get(stack, name);
      return value === undefined ? [] : [{ stack, host, user, key: await publicSshKey(value) }];
    }),
  );
  return keys.flat();
}

/** What a machine that is backed up says of its backups, and the last drill of its stack. */
interface Kept {
  machine: Machine;
  said: { backups: { last_seconds: number | null; rpo_seconds: number | null; late: string[] } | { unknown: string }; drill: Drill | null };
  drilled: string;
}

async function keptOf(machine: Machine, hosts: HostPlan[], target: Target, io: Io): Promise<Kept[]> {
  const plan = hosts.find((h) => h.host === machine.host);
  const settings = plan && backupSettings(plan);
  if (!settings) return [];
  const drills = drillsOf(io.project, machine.stack);
  const asked = machine.state === "running" ? await lastBackups(machine, target, settings, drills) : { unknown: `it is ${machine.state}` };
  return [{ machine, said: { backups: asked, drill: drills.at(-1) ?? null }, drilled: drillText(drills) }];
}

async function lastBackups(machine: Machine, target: Target, settings: BackupSettings, drills: Drill[]): Promise<Kept["said"]["backups"]> {
  try {
    const found = await backupsOn(machine, target.connect(machine), askedSeconds);
    const ended = [...found.postgresql.map((b) => b.ended), ...found.directories.map((d) => d.at)];
    return {
      last_seconds: ended.length ? Math.round(Date.now() / 1000 - Math.max(...ended)) : null,
      rpo_seconds: found.archive?.rpo_seconds ?? null,
      late: [...found.late, ...lateDrill(drills, settings)],
    };
  } catch (error) {
    if (error instanceof Error && !(error instanceof Cancelled)) return { unknown: error.message.split("\n")[0] ?? "" };
    throw error;
  }
}

/** "kept/db: backed up 3 min ago, RPO now 4 s, nothing late; drilled 2 days ago: RTO 31 s, RPO 5 s" */
function keptText({ machine, said: { backups }, drilled }: Kept): string {
  const name = `${machine.stack}/${machine.host}`;
  if ("unknown" in backups) return `${name}: nothing is known of its backups (${backups.unknown}); ${drilled}`;
  const last = backups.last_seconds === null ? "never backed up" : `backed up ${age(backups.last_seconds)} ago`;
  const rpo = backups.rpo_seconds === null ? "" : `, RPO now ${age(backups.rpo_seconds)}`;
  return `${name}: ${last}${rpo}, ${backups.late.length ? `LATE: ${backups.late.join("; ")}` : "nothing late"}; ${drilled}`;
}
