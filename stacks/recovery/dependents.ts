// What on a stack's other hosts depends on one of them, and how it rests while that one is rebuilt (pause.sh). Called by `ingot rebuild`.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { needing, type StackModel } from "../../cloud-init/model.ts";
import type { StackPlan } from "../../cloud-init/plan.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import { toolFolder } from "../../lib/paths.ts";
import type { Connection } from "../target.ts";
import { unitsOf } from "../units.ts";

/** Of one host. */
export interface Dependents {
  host: string;
  /** Names of sites, which answer 503 meanwhile. */
  sites: string[];
  units: string[];
  /** Where servers among them answer, and by which name. */
  answers: { address: string; name: string }[];
}

/** Kinds whose programs use what they depend on. nginx has a page to show, and a mail server keeps what it cannot deliver. */
const resting = ["service", "supervisord", "emperor", "timer", "mailbox", "unit"];

/** Hosts with something that needs `host`, directly or through others. */
export const dependentsOf = (model: StackModel, { hosts }: StackPlan, host: string): Dependents[] =>
  model.hosts.flatMap((other) => {
    const ids = other.name === host ? new Set<string>() : needing(other, host);
    const plan = hosts.find((h) => h.host === other.name);
    if (!ids.size || !plan) return [];
    const rests = (id: string) => ids.has(id) && resting.includes(id.split("/")[0] ?? "");
    const units = unitsOf(plan.generation).flatMap(({ unit, resource }) => (rests(resource) ? [unit] : []));
    const sites = [...ids].flatMap((id) => (id.startsWith("site/") ? [id.slice("site/".length)] : []));
    const answers = plan.generation.steps.flatMap(({ resource, args }) =>
      ids.has(resource) && args.ready !== undefined
        ? [args.listens].flat().map((address) => ({ address: String(address), name: String(args.ready) }))
        : [],
    );
    return units.length || sites.length ? [{ host: other.name, sites, units: [...new Set(units)], answers }] : [];
  });

async function pause(connection: Connection, host: string, words: string[]): Promise<string> {
  const input = readFileSync(join(toolFolder, "stacks/recovery/pause.sh"), "utf8");
  const { code, stdout, stderr } = await connection.exec(["sh", "-s", ...words], { input, timeoutSeconds: 300 });
  if (code === 0) return stdout;
  throw new RefusedError(`what depends on it on ${host} could not be ${words[0] === "hold" ? "stopped" : "started"}: ${stderr.trim()}`);
}

/** Those that run now, and so are to run again. */
export const running = async (connection: Connection, { units, ...rests }: Dependents): Promise<Dependents> => ({
  ...rests,
  units: units.length ? (await pause(connection, rests.host, ["running", ...units])).split("\n").filter((unit) => unit) : [],
});

export async function holdBack(connection: Connection, { host, sites, units }: Dependents): Promise<void> {
  await pause(connection, host, ["hold", sites.join(" "), units.join(" ")]);
}

/** @throws RefusedError when one does not start */
export async function letFollow(connection: Connection, { host, sites, units, answers }: Dependents): Promise<void> {
  await pause(connection, host, ["follow", sites.join(" "), units.join(" "), ...answers.flatMap(({ address, name }) => [address, name])]);
}
