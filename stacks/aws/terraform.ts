// Runs Terraform (or OpenTofu) in a folder with a synthesised stack. Whatever it says becomes progress, a plan as data, or a message.
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cancelled } from "../../lib/cancel.ts";
import { MissingError, RefusedError } from "../../lib/diagnostics.ts";
import { toolFolder } from "../../lib/paths.ts";
import type { Progress } from "../../lib/progress.ts";
import { type RunResult, tryRun } from "../../lib/run.ts";
import { endpointOfS3 } from "./api.ts";

/** The parts of `terraform show -json <plan>` that are read. Source: "JSON Output Format" in Terraform's documentation. */
export interface TerraformPlan {
  resource_changes?: ResourceChange[];
  resource_drift?: ResourceChange[];
  errored?: boolean;
}
export interface ResourceChange {
  address: string;
  type: string;
  name: string;
  mode?: "managed" | "data";
  change: {
    actions: ("no-op" | "create" | "read" | "update" | "delete" | "forget")[];
    before: Record<string, unknown> | null;
    after: Record<string, unknown> | null;
    after_unknown?: Record<string, unknown>;
    replace_paths?: (string | number)[][];
  };
  action_reason?: string;
}

export interface Terraform {
  init(): Promise<void>;
  /** @param options addresses to replace although nothing of them changes, and addresses that alone are looked at */
  plan(options?: { replace?: string[]; target?: string[] }): Promise<TerraformPlan>;
  /** Does what the last plan() said. */
  apply(): Promise<void>;
  /** Takes addresses out of the state, those that are in it: what they stand for stays. */
  forget(addresses: string[]): Promise<void>;
}

export interface TerraformSettings {
  bucket: string;
  state: "s3" | "local";
  /**
   * Of `local`, where the folder itself has none: a plan that is only looked at is made in a folder of its own, from the same state. Never a
   * file of the folder itself: Terraform would take it for one that is to be moved to itself, and empty it.
   */
  stateFile?: string;
  region: string;
}

/** The program: INGOT_TERRAFORM, else `terraform` or `tofu` on PATH. @throws MissingError */
function program(): string {
  const given = process.env.INGOT_TERRAFORM;
  if (given) return given;
  const folders = (process.env.PATH ?? "").split(":");
  const found = ["terraform", "tofu"]
    .flatMap((name) => folders.map((f) => join(f, name)))
    .find((path) => existsSync(path) && statSync(path).isFile());
  if (!found)
    throw new MissingError(
      "hosts on EC2 are made by Terraform or OpenTofu, and neither is on the PATH",
      "https://developer.hashicorp.com/terraform/install",
    );
  return found;
}

export function terraformAt(folder: string, { bucket, state, stateFile }: TerraformSettings, progress: Progress): Terraform {
  const planFile = join(folder, "plan.tfplan");
  const log = join(folder, "terraform.log");
  const cache = join(folder, "../plugins");
  const environment = {
    CHECKPOINT_DISABLE: "1",
    TF_IN_AUTOMATION: "1",
    TF_INPUT: "0",
    TF_VAR_bucket: bucket,
    ...(process.env.TF_PLUGIN_CACHE_DIR || process.env.TF_CLI_CONFIG_FILE ? {} : { TF_PLUGIN_CACHE_DIR: cache }),
  };
  const run = async (args: string[], onLine?: (line: string) => void): Promise<RunResult> => {
    mkdirSync(cache, { recursive: true });
    writeFileSync(log, "", { mode: 0o600 });
    const follow = onLine && follower(log, onLine);
    const timer = follow && setInterval(follow, 200);
    try {
      const command = ["sh", join(toolFolder, "stacks/aws/terraform.sh"), log, program(), ...args];
      const result = await tryRun(command, { cwd: folder, env: environment, gentle: true });
      follow?.();
      return { ...result, stdout: readFileSync(log, "utf8") };
    } finally {
      clearInterval(timer);
    }
  };
  const must = async (what: string, args: string[], onLine?: (line: string) => void): Promise<RunResult> => {
    const result = await run(args, onLine);
    cancelled();
    if (result.code !== 0) throw failed(what, result);
    return result;
  };
  return {
    async init() {
      // Where state is does not change under a stack: what an earlier version had written is told anew.
      const backend = state === "s3" ? backendAt(bucket) : stateFile === undefined ? [] : [`-backend-config=path=${stateFile}`];
      await must("prepare", ["init", "-json", "-upgrade=false", "-reconfigure", ...backend]);
    },
    async plan({ replace = [], target = [] } = {}) {
      rmSync(planFile, { force: true });
      const chosen = [...replace.map((a) => `-replace=${a}`), ...target.map((a) => `-target=${a}`)];
      await must("plan", ["plan", "-json", "-lock-timeout=60s", `-out=${planFile}`, ...chosen]);
      chmodSync(planFile, 0o600);
      const { stdout } = await must("show its plan", ["show", "-json", planFile]);
      return JSON.parse(stdout.slice(stdout.indexOf("{"))) as TerraformPlan;
    },
    async apply() {
      await must("apply", ["apply", "-json", "-lock-timeout=60s", planFile], (line) => {
        const event = parse(line);
        const hook = event?.hook;
        if (event?.type === "apply_complete" && hook)
          progress.say(`  ${did[hook.action ?? ""] ?? hook.action} ${hook.resource?.addr} (${hook.elapsed_seconds ?? 0} s)`);
      });
      rmSync(planFile, { force: true });
    },
    async forget(addresses) {
      const { stdout } = await must("list its state", ["state", "list"]);
      const there = stdout.split("\n").filter((line) => addresses.includes(line));
      if (there.length) await must("forget", ["state", "rm", "-lock-timeout=60s", ...there]);
    },
  };
}

const did: Record<string, string> = { create: "created", update: "changed", delete: "deleted" };

/** An endpoint of one's own (an emulator) is neither a host name for each bucket nor an account that can be asked. */
function backendAt(bucket: string): string[] {
  const own =
    endpointOfS3() === undefined ? [] : ["use_path_style=true", "skip_credentials_validation=true", "skip_requesting_account_id=true"];
  return [`bucket=${bucket}`, ...own].map((setting) => `-backend-config=${setting}`);
}

/** One line of Terraform's machine-readable output. Source: "Machine-Readable UI" in its documentation. */
interface UiEvent {
  type?: string;
  "@level"?: string;
  hook?: { resource?: { addr?: string }; action?: string; elapsed_seconds?: number };
  diagnostic?: { severity: string; summary: string; detail?: string; address?: string };
}

function parse(line: string): UiEvent | undefined {
  try {
    return JSON.parse(line) as UiEvent;
  } catch {
    return undefined;
  }
}

/** Calls `onLine` for each line that has been added since it was called last. */
function follower(file: string, onLine: (line: string) => void): () => void {
  let seen = 0;
  return () => {
    const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
    for (const line of lines.slice(seen)) onLine(line);
    seen = lines.length;
  };
}

/** What it says is wrong, in its own words, with what to do where we know better. */
function failed(what: string, { code, stdout }: RunResult): RefusedError {
  const events = stdout.split("\n").flatMap((line) => parse(line)?.diagnostic ?? []);
  const errors = events.filter((d) => d.severity === "error");
  const words = errors.map((d) =>
    [d.address && `${d.address}:`, d.summary, d.detail && `\n  ${d.detail.trim().replaceAll("\n", "\n  ")}`].filter(Boolean).join(" "),
  );
  const text = words.length ? words.join("\n") : stdout.trim().split("\n").slice(-15).join("\n");
  return new RefusedError(`Terraform could not ${what} (exit code ${code}):\n${text}`, hintOf(text));
}

const hints: [RegExp, string][] = [
  [
    /state lock|Lock Info|PreconditionFailed/i,
    "another Terraform is at this state, or one was killed: when nobody is, `terraform force-unlock <id>` in .ingot/aws/<stack> frees it",
  ],
  [/ExpiredToken|token.*expired/i, "the credentials have expired: `aws sso login`; what was made is kept, and the next run goes on"],
  [/InsufficientInstanceCapacity/, "this zone has none of that type now: another `zone:` or `type:`, or later"],
  [/VcpuLimitExceeded|LimitExceeded/, "a quota of the account is used up: raise it in Service Quotas"],
  [/UnauthorizedOperation|AccessDenied|not authorized/, "docs/aws.md lists every permission that Ingot needs"],
  [
    /Failed to query available provider packages|registry\.terraform\.io/,
    "Terraform fetches its AWS provider from its registry once: is this computer on the network?",
  ],
  [/prevent_destroy|Instance cannot be destroyed/, "it holds data: name it with --yes-delete-volume <host>/<volume> when it may go"],
];
const hintOf = (text: string): string | undefined => hints.find(([pattern]) => pattern.test(text))?.[1];
