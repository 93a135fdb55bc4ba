// The proof: the checks that a host's resources compile to, asked from inside in one call and from the stack's network in another.
import { createHash, createPublicKey } from "node:crypto";
import { join } from "node:path";
import type { Check, HostPlan } from "../cloud-init/plan.ts";
import { RefusedError } from "../lib/diagnostics.ts";
import type { Json } from "../lib/digest.ts";
import { toolFolder } from "../lib/paths.ts";
import type { SecretStore } from "./secrets.ts";
import type { Connection, ExecResult, Machine } from "./target.ts";

export interface CheckResult {
  id: string;
  host: string;
  resource: string;
  seen: Check["seen"];
  check: string;
  ok: boolean;
  /** What was found instead, for people. */
  message: string;
}

/** How a check from outside is told where the machine is. */
const addressArgument: Record<string, string> = { tcp: "host", smtp: "host", http: "connect", tls: "connect" };

/** Runs every check of a host. @throws RefusedError when the checks could not be run at all */
export async function verifyHost(plan: HostPlan, machine: Machine, connection: Connection, store: SecretStore): Promise<CheckResult[]> {
  const outside: Check[] = [];
  for (const check of plan.checks) {
    const { pin, ...rest } = check.args;
    const args: Check["args"] = { [addressArgument[check.check] ?? "connect"]: machine.address, ...rest };
    if (isPin(pin)) args.pin = await pinOf(store, plan.stack, pin.publicKeyOf);
    outside.push({ ...check, args });
  }
  const [within, without] = await Promise.all([
    ask(plan, plan.generation.checks, (input) => connection.exec(["/usr/lib/ingot/check.py"], { input, timeoutSeconds: 120 })),
    ask(plan, outside, (input) =>
      connection.beside(["python3", join(toolFolder, "cloud-init/host/check.py")], { input, timeoutSeconds: 120 }),
    ),
  ]);
  return [...within, ...without];
}

const isPin = (pin: Json | undefined): pin is { publicKeyOf: string } => Boolean(pin && typeof pin === "object" && "publicKeyOf" in pin);

/** What the public half of a private key (PEM) is pinned by: base64 of sha256 over its SubjectPublicKeyInfo (RFC 7469, section 2.4). */
async function pinOf(store: SecretStore, stack: string, name: string): Promise<string> {
  const key = await store.get(stack, name);
  if (key === undefined)
    throw new RefusedError(
      `${stack} has no secret ${name}: what answers cannot be proven to be the host`,
      `\`ingot up ${stack}\` makes it`,
    );
  return createHash("sha256")
    .update(createPublicKey(key).export({ type: "spki", format: "der" }))
    .digest("base64");
}

async function ask(
  plan: Pick<HostPlan, "stack" | "host">,
  checks: Check[],
  run: (input: string) => Promise<ExecResult>,
): Promise<CheckResult[]> {
  if (!checks.length) return [];
  const result = await run(JSON.stringify(checks.map(({ id, check, args }) => ({ id, check, args }))));
  let answers: { id: string; ok: boolean; message?: string }[];
  try {
    answers = JSON.parse(result.stdout) as typeof answers;
  } catch {
    throw new RefusedError(
      `the checks of ${plan.stack}/${plan.host} could not be run: exit code ${result.code}\n${result.stderr.trim().split("\n").slice(-15).join("\n")}`,
    );
  }
  const byId = new Map(answers.map((a) => [a.id, a]));
  return checks.map(({ id, resource, seen, check }) => {
    const answer = byId.get(id);
    return { id, host: plan.host, resource, seen, check, ok: answer?.ok ?? false, message: answer?.message ?? "no answer" };
  });
}
