// Where a stack is on EC2, read from its file whether the rest of the file is right or not: commands on machines that are there need no more.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { overridesOf, stackNames } from "../../cloud-init/model.ts";
import { withVariables } from "../../cloud-init/variables.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import type { Chosen, Project } from "../../lib/paths.ts";
import { valueAt } from "../../lib/schema.ts";
import { parseYaml } from "../../lib/yaml.ts";

export interface AwsSettings {
  region?: string;
  bucket?: string;
  state: "s3" | "local";
  secrets: "parameter-store" | "secrets-manager";
}

/** @param stack its name or file; without one, what the project's stacks agree on */
export function settingsOf(project: Project, stack: string | undefined): AwsSettings {
  if (stack !== undefined) return read(/\.ya?ml$/.test(stack) ? stack : join(project.stacks, `${stack}.yaml`), project.chosen);
  const all = stackNames(project).map((name) => read(join(project.stacks, `${name}.yaml`), undefined));
  const places = [
    ...new Map(all.filter((s) => s.region !== undefined || s.bucket !== undefined).map((s) => [`${s.region} ${s.bucket}`, s])).values(),
  ];
  if (places.length > 1)
    throw new RefusedError(
      `the stacks of this project are in ${places.map((s) => s.region ?? s.bucket).join(", ")}`,
      "say which stack: `ingot status <stack> --on aws`",
    );
  return places[0] ?? all[0] ?? read("", undefined);
}

function read(file: string, chosen: Chosen | undefined): AwsSettings {
  let content: string | undefined;
  try {
    content = readFileSync(file, "utf8");
  } catch {
    // no such file: the region comes from the environment
  }
  const value = content === undefined ? undefined : withVariables(parseYaml(file, content), overridesOf(file, chosen), []).value;
  const text = (at: unknown): string | undefined => (typeof at === "string" ? at : undefined);
  const hosts = valueAt(value, ["hosts"]);
  const regions = Object.keys(hosts && typeof hosts === "object" ? hosts : {}).map((host) =>
    text(valueAt(value, ["hosts", host, "aws", "region"])),
  );
  return {
    region: text(valueAt(value, ["aws", "region"])) ?? regions.find((r) => r !== undefined),
    bucket: text(valueAt(value, ["aws", "bucket"])),
    state: valueAt(value, ["aws", "state"]) === "local" ? "local" : "s3",
    secrets: valueAt(value, ["aws", "secrets"]) === "secrets-manager" ? "secrets-manager" : "parameter-store",
  };
}
