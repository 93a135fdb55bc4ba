// Where a stack is on EC2, read from its file whether the rest of the file is right or not: commands on machines that are there need no more.
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { overridesOf, stackNames } from "../../cloud-init/model.ts";
import { withVariables } from "../../cloud-init/variables.ts";
import { InputError, RefusedError } from "../../lib/diagnostics.ts";
import type { Chosen, Project } from "../../lib/paths.ts";
import { valueAt } from "../../lib/schema.ts";
import { type Path, parseYaml } from "../../lib/yaml.ts";

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

/**
 * Where the project's AMIs are: in the region that is said, else where its stacks are.
 * @throws RefusedError when its stacks are in several, and nobody says which
 */
export function placeOf(project: Project, region: string | undefined): Pick<AwsSettings, "region" | "bucket"> {
  if (region !== undefined) return { region, bucket: bucketsNamed(project, region)[0] };
  try {
    return settingsOf(project, undefined);
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    throw new RefusedError(error.message, "say which region: --region <region>");
  }
}

/** What a host of the project says of its image on EC2, in each environment of its stack. */
export interface DeclaredImage {
  stack: string;
  host: string;
  recipe: string;
  image: "recipe" | { channel: string } | { ami: string };
}

/** @throws InputError for a file that cannot be read, RefusedError where nobody knows which image is meant: what it needs could be thrown away */
export function imagesDeclared(project: Project): DeclaredImage[] {
  const files = readdirSync(project.stacks);
  return stackNames(project).flatMap((stack) => {
    const variants = files.flatMap((f) => (f.startsWith(`${stack}.`) ? (/^[^.]+\.([^.]+)\.yaml$/.exec(f)?.[1] ?? []) : []));
    return [undefined, ...variants].flatMap((environment): DeclaredImage[] => {
      const file = join(project.stacks, `${stack}.yaml`);
      const { diagnostics, text } = parseYaml(relative(process.cwd(), file), readFileSync(file, "utf8"));
      if (diagnostics.length) throw new InputError(diagnostics, new Map([[relative(process.cwd(), file), text]]));
      const { value, unknown } = saidIn(file, environment === undefined ? project.chosen : { environment, set: [] });
      const hosts = valueAt(value, ["hosts"]);
      return Object.keys(hosts && typeof hosts === "object" ? hosts : {}).flatMap((host) => {
        const recipe = valueAt(value, ["hosts", host, "image"]);
        const [channel, ami] = ["channel", "ami"].map((key) => valueAt(value, ["hosts", host, "aws", "image", key]));
        // A variable without a value, which each of the environments gives it.
        const path = ["hosts", host, "aws", "image"];
        const open = unknown.some((u) => u.slice(0, path.length).every((part, i) => part === path[i]));
        if (open && environment === undefined && variants.length) return [];
        if (open)
          throw new RefusedError(
            `which AMI ${stack}/${host} boots depends on a variable that has no value`,
            "give it one: --set <variable>=<value>, or a `default:`",
          );
        const image = typeof channel === "string" ? { channel } : typeof ami === "string" ? { ami } : "recipe";
        return typeof recipe === "string" ? [{ stack, host, recipe, image }] : [];
      });
    });
  });
}

/** Buckets that stacks of the project name, where they are in this region or say of none. */
export const bucketsNamed = (project: Project, region: string): string[] =>
  stackNames(project)
    .map((name) => read(join(project.stacks, `${name}.yaml`), undefined))
    .flatMap((s) => (s.bucket !== undefined && (s.region ?? region) === region ? [s.bucket] : []));

/** `value` is undefined where there is no such file, or nothing that can be read in it; `unknown`: paths of variables without a value. */
function saidIn(file: string, chosen: Chosen | undefined): { value: unknown; unknown: Path[] } {
  let content: string;
  try {
    content = readFileSync(file, "utf8");
  } catch {
    return { value: undefined, unknown: [] };
  }
  return withVariables(parseYaml(file, content), overridesOf(file, chosen), []);
}

function read(file: string, chosen: Chosen | undefined): AwsSettings {
  // Without a file the region comes from the environment.
  const { value } = saidIn(file, chosen);
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
