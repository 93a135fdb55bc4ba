// ingot deploy: an application's release beside the one that serves, proven, and taken back when it does not prove itself.
import { parseArgs } from "node:util";
import { findStack, type HostModel, loadStack, type StackModel } from "../cloud-init/model.ts";
import { commitOf } from "../cloud-init/ref.ts";
import { application } from "../cloud-init/resources/application.ts";
import { surroundingsOf } from "../cloud-init/surroundings.ts";
import { nearest, RefusedError } from "../lib/diagnostics.ts";
import type { ChosenCommit } from "../lib/paths.ts";
import { sayParts } from "./apply.ts";
import { changing, hostsOf, make, sayBack } from "./change.ts";
import type { Io } from "./command.ts";
import { only, splitName } from "./stack.ts";

export const help = `Brings the releases of a stack's applications, or of one, to every host that has it: the application with what it needs and with all that runs
it. All else stays as the machines have it (\`ingot apply\` brings that).

  ingot deploy <stack>[/<application>] [--ref <branch, tag or commit>]

The release is built before anything is touched. On the machine it is unpacked beside the old one, which serves until the new one is migrated
and whole; then its services take it over, must be up, and every check is run. When anything of that fails, but for checks that failed before, too,
the machines become again what they were: the release that served goes on serving. What a migration did to a database stays. Exit code 1 when it
was taken back.

--ref: of an application whose sources are a git repository, what is there now under this name, in place of the commit in the stack. The stack's
file is not changed: it is said what to write there, and the next apply brings what it says.

  ingot deploy inloop/inloop
  ingot deploy inloop/inloop --ref v1.4`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: { ref: { type: "string" } } });
  const given = only(positionals, "stack", "ingot deploy <stack>[/<application>] [--ref <branch, tag or commit>]");
  const began = performance.now();
  const { stack, host: name } = splitName(given);
  const before = loadStack(findStack(io.project, stack), surroundingsOf(io.project));
  const names = applicationsOf(before, name);
  const chosen = values.ref === undefined ? undefined : await chosenCommit(before, names, values.ref);
  const own = chosen
    ? { ...io, project: { ...io.project, chosen: { set: [], ...io.project.chosen, commits: { [chosen.name]: chosen.commit } } } }
    : io;
  const ids = names.map((n) => `${application.kind}/${n}`);
  const what = `deploy ${given}${values.ref === undefined ? "" : ` --ref ${values.ref}`}`;
  return changing({ stack, named: hostsOf(ids), what }, own, async (change) => {
    sayParts(change, ids, io);
    const result = await make(change, io, { prove: "always", keep: false });
    const { plan } = change;
    const { ok, outcomes, checks, already, back } = result;
    if (io.json)
      io.print(
        JSON.stringify(
          { stack: plan.stack, ok, ...(chosen && { commit: chosen.commit.commit }), hosts: outcomes, checks, already, back },
          null,
          2,
        ),
      );
    else if (ok) {
      io.print(`${plan.stack}: deployed and verified (${checks.length} checks) in ${((performance.now() - began) / 1000).toFixed(1)} s`);
      if (chosen) io.print(`to keep it, write into ${chosen.place}: commit: ${chosen.commit.commit}`);
    }
    if (!ok) sayBack(change, result, false, io);
    return ok ? 0 : 1;
  });
}

const applicationNames = (hosts: HostModel[]): string[] => [...new Set(hosts.flatMap((h) => h.all(application).map((a) => a.name)))];

/** All of the stack's applications, or the one that is named. @throws RefusedError naming the nearest */
export function applicationsOf(model: StackModel, name: string | undefined): string[] {
  const names = applicationNames(model.hosts);
  if (name !== undefined && names.includes(name)) return [name];
  if (name === undefined && names.length) return names;
  const near = name === undefined ? undefined : nearest(name, names);
  throw new RefusedError(
    name === undefined ? `${model.name} has no application` : `${model.name} has no application \`${name}\``,
    name !== undefined && model.hosts.some((h) => h.name === name)
      ? `it is a host: ingot apply ${model.name}/${name}`
      : near
        ? `did you mean \`${model.name}/${near}\`?`
        : names.length
          ? `there are: ${names.join(", ")}`
          : `all else is brought by: ingot apply ${model.name}`,
  );
}

/** What `--ref` comes to, and where the stack's own commit stands. @throws RefusedError */
async function chosenCommit(
  model: StackModel,
  [name, ...others]: string[],
  ref: string,
): Promise<{ name: string; commit: ChosenCommit; place: string }> {
  if (name === undefined || others.length)
    throw new RefusedError(
      `which application is to be ${ref}?`,
      `ingot deploy ${model.name}/<application> --ref ${ref}: ${[name, ...others].join(", ")}`,
    );
  for (const host of model.hosts) {
    const app = host.get(application, name);
    if (!app) continue;
    const { source } = app.value;
    if (typeof source === "string" || !("git" in source))
      throw new RefusedError(
        `the sources of ${app.id} are no git repository: they have no ${ref}`,
        "--ref is for `source: { git: …, commit: … }`",
      );
    const { file, start } = model.yaml.rangeOf([...app.path, "source", "commit"]);
    return { name, commit: await commitOf(host, source.git, ref), place: `${file}:${start.line}` };
  }
  throw new Error(`no application ${name}`);
}
