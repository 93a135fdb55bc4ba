// `npm run docs`: writes the pages that follow from the code, docs/resources/*.md from the kinds and docs/commands.md from the
// commands' own help. Not a command of `ingot`. tests/scripts/docs.test.ts holds the committed pages against pages().
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { compile } from "../cloud-init/compile.ts";
import { exampleStack, type Kind, type Resource } from "../cloud-init/kind.ts";
import { type HostModel, loopback, modelOf, type StackModel } from "../cloud-init/model.ts";
import type { HostPlan, Part } from "../cloud-init/plan.ts";
import { kinds } from "../cloud-init/resources/index.ts";
import { stackSchema } from "../cloud-init/schema.ts";
import { surroundingsOf } from "../cloud-init/surroundings.ts";
import { isSensitive } from "../cloud-init/value.ts";
import { projectAt, toolFolder } from "../lib/paths.ts";
import { expected, type Schema } from "../lib/schema.ts";
import { parseYaml } from "../lib/yaml.ts";

const origin = (source: string): string => `<!-- Made by \`npm run docs\` from ${source}: change it there. -->\n`;

/** Every generated page: path below docs/ → content. The same on every computer, whatever is baked there. */
export function pages(): Map<string, string> {
  return new Map([
    ["resources/README.md", indexPage()],
    ...kinds.map((k): [string, string] => [`resources/${k.kind}.md`, kindPage(k)]),
    ["commands.md", commandsPage()],
  ]);
}

// --- Markdown -----------------------------------------------------------------------------------------------------------------

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ") || " ";
const code = (text: string): string => `\`${text}\``;
const table = (head: string[], rows: string[][]): string =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.map(cell).join(" | ")} |\n`).join("");
/** A heading and what is below it; nothing when there is nothing. */
const section = (title: string, body: string): string => (body ? `\n${title}\n\n${body}` : "");
const link = (kind: string): string => `[${kind}](${kind}.md)`;

// --- What a schema says -------------------------------------------------------------------------------------------------------

interface Property {
  path: string;
  schema: Schema;
  required: boolean;
}

/** The properties of an object, those of objects in it after them: `static.compress`, `locations.<name>.proxy`, `list[].key`. */
function propertiesOf(schema: Schema, path = ""): Property[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => {
    const at = path ? `${path}.${name}` : name;
    return [{ path: at, schema: inner, required: schema.required?.includes(name) ?? false }, ...below(inner, at)];
  });
}

function below(schema: Schema, path: string): Property[] {
  if (schema["x-value"] || schema["x-ref"]) return [];
  if (schema.properties) return propertiesOf(schema, path);
  if (schema.anyOf) return schema.anyOf.flatMap((one) => below(one, path));
  if (schema.additionalProperties) return below(schema.additionalProperties, `${path}.<name>`);
  return schema.items ? below(schema.items, `${path}[]`) : [];
}

function typeOf(schema: Schema): string {
  if (schema["x-ref"]) return `name of a ${[schema["x-ref"].kind, ...(schema["x-ref"].or ?? [])].map(link).join(" or ")}`;
  if (schema["x-output"] === true) return "path, or [output](../stacks.md#values)";
  if (schema["x-value"] === "nested") return "data of any depth, its leaves [values](../stacks.md#values)";
  if (schema["x-value"]) return "[value](../stacks.md#values)";
  if (schema.enum) return schema.enum.map((v) => code(String(v))).join(" or ");
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(", or ");
  switch (schema.type) {
    case "array":
      return `list of: ${schema.items ? typeOf(schema.items) : "anything"}`;
    case "object":
      return schema.additionalProperties ? `map by name of: ${typeOf(schema.additionalProperties)}` : "object";
    case "string":
      return schema["x-expected"] ?? "text";
    case "integer":
      return `whole number${rangeOf(schema)}`;
    case "number":
      return `number${rangeOf(schema)}`;
    case "boolean":
      return `${code("true")} or ${code("false")}`;
    default:
      return "anything";
  }
}

const rangeOf = ({ minimum, maximum }: Schema): string => {
  if (minimum !== undefined && maximum !== undefined) return `, ${minimum} to ${maximum}`;
  return minimum !== undefined ? `, at least ${minimum}` : maximum !== undefined ? `, at most ${maximum}` : "";
};

const defaultOf = ({ default: value }: Schema): string => (value === undefined ? "" : code(JSON.stringify(value)));

const propertyTable = (properties: Property[]): string =>
  table(
    ["property", "type", "required", "default", "what it is"],
    properties.map(({ path, schema, required }) => [
      code(path),
      typeOf(schema),
      required ? "yes" : "",
      defaultOf(schema),
      schema.description ?? "",
    ]),
  );

/** Where a kind's resources are named by others: `service.user`. */
const namedBy = (kind: string): string[] =>
  kinds.flatMap((k) =>
    propertiesOf(k.schema)
      .filter((p) => refersTo(p.schema, kind))
      .map((p) => `${link(k.kind)} ${code(p.path)}`),
  );

const refersTo = (schema: Schema, kind: string): boolean =>
  schema["x-ref"]?.kind === kind ||
  schema["x-ref"]?.or?.includes(kind) ||
  Boolean((schema.items && refersTo(schema.items, kind)) || schema.anyOf?.some((s) => !schema["x-value"] && refersTo(s, kind)));

// --- What an example becomes --------------------------------------------------------------------------------------------------

/** Nothing is baked for the docs: what the image has follows from recipe and lock alone. */
const around = {
  ...surroundingsOf({ ...projectAt(toolFolder), store: "/nonexistent" }),
  release: (_: HostModel, application: string) => ({
    id: "0123456789abcdef",
    sha256: "0".repeat(64),
    path: `/nonexistent/${application}.tar.zst`,
  }),
};

interface Example {
  yaml: string;
  model: HostModel;
  plan: HostPlan;
  /** Those of the kind. */
  resources: Resource[];
}

/** @throws InputError when the example is wrong */
function compiled(kind: Kind, yaml: string): Example {
  const model: StackModel = modelOf(
    parseYaml(`the example of ${kind.kind}`, exampleStack("example", yaml)),
    join(toolFolder, "stacks"),
    around,
  );
  const [host] = model.hosts;
  const [plan] = compile(model).hosts;
  if (!host || !plan) throw new Error(`the example of ${kind.kind} has no host`);
  return { yaml, model: host, plan, resources: host.all(kind) };
}

const shown = (parts: Part[]): string => parts.map((p) => (typeof p === "string" ? p : `‹${p.secret}›`)).join("");

function outputRows(kind: Kind, examples: Example[]): string[][] {
  const rows = new Map<string, string[]>();
  for (const { model, resources } of examples) {
    for (const resource of resources) {
      for (const [name, { parts, description }] of Object.entries(kind.outputs?.(resource, model, loopback) ?? {})) {
        const from = kind.shape === "one" ? `${kind.kind}/${name}` : `${kind.kind}/${resource.name}.${name}`;
        if (!rows.has(name)) rows.set(name, [code(`{ from: ${from} }`), code(shown(parts)), isSensitive(parts) ? "yes" : "", description]);
      }
    }
  }
  return [...rows.values()];
}

/** The lines of the stack plan that are there because of the kind's own resources in the example. */
function becomes(kind: Kind, { plan, model, resources }: Example): string {
  const own = new Set(resources.map((r) => r.id));
  const mine = <T extends { resource: string }>(things: T[]): T[] => things.filter((t) => own.has(t.resource));
  const secrets = resources.flatMap((r) => kind.compile(r, model).secrets ?? []);
  const volumes = resources.flatMap((r) => kind.compile(r, model).volumes ?? []);
  const checks = mine([...plan.generation.checks, ...plan.checks]).filter((c) => !c.id.startsWith("host:"));
  const lists: [string, string[]][] = [
    ["needs in the image", [...new Set(mine(plan.wants).map((w) => code("name" in w ? w.name : w.path)))]],
    ["files", mine(plan.generation.files).map((f) => `${code(f.path)} (${f.mode})`)],
    ["secrets", secrets.map((s) => `${code(s.name)} (${s.generate ?? "given by you"})`)],
    ["volumes", volumes.map((v) => `${code(v.name)} at ${code(v.mount)}`)],
    ["ports", mine(plan.ports).map((p) => `${p.port}/${p.protocol} from ${p.from}`)],
    ["checks", checks.map((c) => `${code(c.id)} (${c.check}, ${c.seen})`)],
  ];
  const steps = mine(plan.generation.steps);
  return [
    steps.length
      ? table(
          ["step", "action", "after", "done by", "limit"],
          steps.map((s) => [code(s.id), code(s.action), s.after.map(code).join(", ") || "at once", doneBy(s), `${s.timeoutSeconds} s`]),
        )
      : "No steps.\n",
    lists
      .filter(([, items]) => items.length)
      .map(([title, items]) => `- ${title}: ${items.join(", ")}\n`)
      .join(""),
  ]
    .filter((part) => part)
    .join("\n");
}

const doneBy = ({ done, stampIn }: HostPlan["generation"]["steps"][number]): string =>
  stampIn ? `stamp in database ${stampIn.database}` : done;

// --- The pages ----------------------------------------------------------------------------------------------------------------

const shapeOf = (kind: Kind): string => {
  if (kind.schema.type === "string") return `${kind.key}: <text>`;
  return kind.shape === "one" ? `${kind.key}: { … }` : `${kind.key}: { <name>: { … } }`;
};

function kindPage(kind: Kind): string {
  const examples = kind.examples.map((yaml) => compiled(kind, yaml));
  const properties = propertiesOf(kind.schema);
  const facts = [
    kind.shape === "one"
      ? `A host has one: \`${shapeOf(kind)}\`. Its id is \`${kind.kind}\`.`
      : `A host has any number, by name: \`${shapeOf(kind)}\`. Its id is \`${kind.kind}/<name>\`.`,
    kind.shape === "many" && kind.names ? `Its name is ${expected(kind.names)}.` : "",
    kind.implies?.length ? `Brings with it, when not declared: ${kind.implies.map(link).join(", ")}.` : "",
    namedBy(kind.kind).length ? `Named by: ${namedBy(kind.kind).join(", ")}.` : "",
  ].filter((f) => f);
  return [
    origin(`cloud-init/resources/${kind.kind}.ts`),
    `# ${kind.kind}\n\n${kind.summary}\n\n${facts.map((f) => `- ${f}\n`).join("")}`,
    section("## Properties", properties.length ? propertyTable(properties) : `${valueLine(kind)}\n`),
    section("## Outputs", withHead(outputRows(kind, examples))),
    ...examples.map((e, i) =>
      section(
        examples.length > 1 ? `## Example ${i + 1}` : "## Example",
        `\`\`\`yaml\n${e.yaml}\`\`\`\n${section("What this kind's part of it becomes:", becomes(kind, e))}`,
      ),
    ),
  ].join("");
}

const withHead = (rows: string[][]): string =>
  rows.length ? table(["written as", "in the example", "sensitive", "what it is"], rows) : "";

const valueLine = ({ schema }: Kind): string =>
  schema.type === "string" ? `The value is ${typeOf(schema)}.` : "None: write `{}` behind the name.";

const firstSentence = (text: string): string => /^(?:`[^`]*`|[^`])*?[.:](?= |$)/.exec(text)?.[0].replace(/:$/, ".") ?? text;

function indexPage(): string {
  const host = stackSchema.properties?.hosts?.additionalProperties || {};
  const keys = new Set(kinds.map((k) => k.key));
  const head = propertiesOf(host).filter((p) => !keys.has(p.path.split(".")[0] ?? ""));
  const top = propertiesOf({
    ...stackSchema,
    properties: { ...stackSchema.properties, hosts: { ...stackSchema.properties?.hosts } },
  }).filter((p) => !p.path.startsWith("hosts."));
  return [
    origin("cloud-init/schema.ts and cloud-init/resources/"),
    "# Resource kinds\n\nWhat may stand in a stack's file. [How to write a stack](../stacks.md) says how it goes together.\n",
    section(
      "## Kinds: the keys of a host",
      table(
        ["key", "kind", "what it is"],
        kinds.map((k) => [code(shapeOf(k)), link(k.kind), firstSentence(k.summary)]),
      ),
    ),
    section("## The file", propertyTable(top)),
    section("## A host's other keys", propertyTable(head)),
  ].join("");
}

/** What a command says of itself, asked of the built command line. */
const helpOf = (args: string[]): string =>
  execFileSync(process.execPath, [join(toolFolder, "dist/ingot.js"), ...args], { encoding: "utf8" });

function commandsPage(): string {
  const overview = helpOf(["--help"]);
  const names = [...overview.matchAll(/^ {2}(\w+) {2,}\S/gm)].map((m) => m[1] ?? "");
  return [
    origin("the commands' help (scripts/<command>.ts)"),
    `# Commands\n\n\`\`\`text\n${overview}\`\`\`\n`,
    section(
      "## Exit codes",
      table(
        ["code", "meaning"],
        [
          ["0", "fine"],
          ["1", "the thing asked for failed or was refused"],
          ["2", "the input is wrong: a stack, a recipe, or the arguments; see [errors](errors.md)"],
          ["3", "this computer lacks something; the message names the command that installs it"],
          ["130, 143", "stopped by Ctrl-C or SIGTERM; what was begun has been undone"],
        ],
      ) + "\nResults go to standard output, progress and messages to standard error. With `--json` the result is JSON.\n",
    ),
    ...names.map((name) => section(`## ingot ${name}`, `\`\`\`text\n${helpOf([name, "--help"])}\`\`\`\n`)),
  ].join("");
}

/** Writes every page, and removes pages of kinds that are gone. */
function write(): void {
  const docs = join(toolFolder, "docs");
  const made = pages();
  for (const [path, content] of made) {
    mkdirSync(dirname(join(docs, path)), { recursive: true });
    writeFileSync(join(docs, path), content);
  }
  for (const file of readdirSync(join(docs, "resources"))) if (!made.has(`resources/${file}`)) rmSync(join(docs, "resources", file));
  console.log(`${made.size} pages written below docs/`);
}

// The test bundles this file, too.
if (basename(process.argv[1] ?? "") === "docs.js") write();
