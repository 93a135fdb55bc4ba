// Reads Terraform's plan before anything is done, and says in words what will happen to each host and to its data. What holds data is
// replaced or deleted only when it has been named; what Terraform is told to overlook (image, user-data) is told from the inventory.
import { sha256, short } from "../../lib/digest.ts";
import type { Inventory } from "./inventory.ts";
import { type AwsHost, type AwsStack, addresses, names } from "./shape.ts";
import type { ResourceChange, TerraformPlan } from "./terraform.ts";

export type Action = "create" | "update" | "replace" | "delete";

/** One thing of Terraform's that will change. */
export interface Change {
  address: string;
  action: Action;
  /** The host that it belongs to. */
  host?: string;
  words: string;
  /** Something that holds data. */
  data: boolean;
}

export interface Refusal {
  address: string;
  words: string;
  /** What has to be said for it. */
  unless: string;
}

export interface HostVerdict {
  host: string;
  /** `stays`: the machine goes on; what is said of it may ask for more. */
  fate: "created" | "stays" | "changed" | "replaced" | "deleted";
  words: string[];
}

export interface Verdict {
  stack: string;
  hosts: HostVerdict[];
  changes: Change[];
  /** What somebody else has changed since. */
  drift: string[];
  refused: Refusal[];
}

export interface GuardFacts {
  stack: AwsStack;
  inventory?: Inventory;
  /** Hosts that may be made anew. */
  replace: string[];
  /** Data volumes that may go: "host/volume". */
  deleteVolumes: string[];
}

export function guard(plan: TerraformPlan, facts: GuardFacts): Verdict {
  const { stack, inventory } = facts;
  const known = [...stack.hosts, ...(inventory?.shape.hosts ?? [])];
  const changes: Change[] = [];
  const refused: Refusal[] = [];
  for (const resource of (plan.resource_changes ?? []).filter((r) => r.mode !== "data")) {
    const action = actionOf(resource);
    if (!action) continue;
    const change = changeOf(resource, action);
    changes.push(change);
    refused.push(...refusals(resource, action, change, facts, known));
  }
  const hosts = stack.hosts.map((host) => verdictOf(host, changes, stack, inventory));
  const gone = (inventory?.hosts ?? []).filter((h) => !stack.hosts.some((s) => s.host === h.host));
  for (const { host } of gone) hosts.push({ host, fate: "deleted", words: ["is no longer in the stack: its machine goes"] });
  // Terraform tells as drift whatever it reads anew, also what follows from its own last run: what is meant here is what it would take back.
  const drift = inventory ? (plan.resource_drift ?? []).flatMap((r) => driftOf(r, plan.resource_changes ?? [])) : [];
  return { stack: stack.stack, hosts, changes, drift, refused };
}

/** undefined: nothing happens to it. */
function actionOf({ change: { actions } }: ResourceChange): Action | undefined {
  if (actions.includes("delete") && actions.includes("create")) return "replace";
  return (["create", "update", "delete"] as const).find((a) => actions.includes(a));
}

/** What somebody else did to a thing, and this plan takes back. */
function driftOf(drifted: ResourceChange, planned: ResourceChange[]): string[] {
  const change = planned.find((r) => r.address === drifted.address && actionOf(r));
  if (!change) return [];
  if (drifted.change.after === null) return [`${drifted.address} is gone`];
  const back = new Set(attributes(change).map((a) => a.split(":")[0]));
  const parts = attributes(drifted).filter((a) => back.has(a.split(":")[0]));
  return parts.length ? [`${drifted.address}: ${parts.join(", ")}`] : [];
}

/** Types that hold data, whoever made them. */
const holdsData = /^aws_(ebs_volume|ebs_snapshot|db_|rds_|s3_bucket|s3_object|efs_|dynamodb_|secretsmanager_secret|kms_key|backup_)/;

const tagsOf = (values: Record<string, unknown> | null): Record<string, unknown> => {
  const tags = values?.tags_all ?? values?.tags;
  return tags && typeof tags === "object" ? (tags as Record<string, unknown>) : {};
};
const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
/** Of what is deleted the tags are before, of what is created they are after. */
const tagOf = ({ change }: ResourceChange, tag: string): string | undefined =>
  text(tagsOf(change.before)[tag]) ?? text(tagsOf(change.after)[tag]);

function changeOf(resource: ResourceChange, action: Action): Change {
  const host = tagOf(resource, names.tags.host);
  const volume = tagOf(resource, names.tags.volume);
  const what = volume === undefined ? describe(resource) : `the data volume ${host}/${volume}`;
  const reasons = [...new Set((resource.change.replace_paths ?? []).map(([key]) => String(key)))].sort();
  const parts = action === "update" ? attributes(resource) : action === "replace" ? reasons : [];
  const words = verbs(resource)[action];
  return {
    address: resource.address,
    action,
    ...(host !== undefined && { host }),
    words: `${what} ${words}${parts.length ? ` (${parts.join(", ")})` : ""}${consequence(resource, action)}`,
    data: holdsData.test(resource.type),
  };
}

const isPort = ({ type }: ResourceChange): boolean => type === "aws_vpc_security_group_ingress_rule";

const verbs = (resource: ResourceChange): Record<Action, string> =>
  isPort(resource)
    ? { create: "is opened", update: "is changed", replace: "is opened anew", delete: "is closed" }
    : { create: "is made", update: "is changed", replace: "is made anew", delete: "is deleted" };

function describe(resource: ResourceChange): string {
  const { type, name, change } = resource;
  const rule = change.after ?? change.before ?? {};
  // Its own words, as firewall.ts wrote them: "site/web from 0.0.0.0/0".
  if (isPort(resource) && rule.description) return `port ${rule.to_port}/${rule.ip_protocol} of ${rule.description}`;
  return `${type.replace(/^aws_/, "").replaceAll("_", " ")} ${name}`;
}

/** Attributes that differ, with both values where they are short; what a plan marks as sensitive has none. */
function attributes({ change: { before, after, after_unknown } }: ResourceChange): string[] {
  const keys = new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})]);
  return [...keys]
    .filter((key) => key !== "tags_all" && JSON.stringify(before?.[key] ?? null) !== JSON.stringify(after?.[key] ?? null))
    .filter((key) => before && after && !(after_unknown?.[key] === true && before[key] === null))
    .map((key) => {
      const shown = [before?.[key], after?.[key]].map((v) => (v !== null && typeof v === "object" ? undefined : String(v ?? "none")));
      return shown.every((v) => v !== undefined && v.length <= 40)
        ? `${key}: ${shown[0]} → ${after_unknown?.[key] === true ? "known later" : shown[1]}`
        : key;
    })
    .sort();
}

/** What a change means for the machine. Source: the AWS provider's documentation of aws_instance, `instance_type`. */
function consequence({ type, change }: ResourceChange, action: Action): string {
  if (action !== "update") return "";
  if (type === "aws_ebs_volume" && Number(change.after?.size) > Number(change.before?.size))
    return ": its file system grows with `ingot apply`";
  if (type !== "aws_instance") return "";
  return ["instance_type", "ebs_optimized", "cpu_options"].some(
    (k) => JSON.stringify(change.before?.[k]) !== JSON.stringify(change.after?.[k]),
  )
    ? ": the machine is stopped for it and started again, a minute or two"
    : "";
}

/** It would be made anew in another zone. */
const moves = ({ change: { replace_paths = [] } }: ResourceChange): boolean => replace_paths.some(([key]) => key === "availability_zone");
const stays = "what is on a volume stays in its zone";
const rebuilds = ({ stack: { stack } }: GuardFacts, host: string | undefined): string =>
  `to move it with its data: \`ingot rebuild ${stack}/${host} --on aws\`; or write its \`zone:\` as it was`;

function refusals(resource: ResourceChange, action: Action, change: Change, facts: GuardFacts, known: AwsHost[]): Refusal[] {
  const { address, type } = resource;
  const host = tagOf(resource, names.tags.host);
  const volume = tagOf(resource, names.tags.volume);
  if (type === "aws_ebs_volume" && action === "update") {
    const [before, after] = [resource.change.before?.size, resource.change.after?.size].map(Number);
    if (before !== undefined && after !== undefined && after < before)
      return [
        {
          address,
          words: `${change.words}: a volume cannot shrink`,
          unless: `leave \`size: ${before}GiB\`, or move the data to a volume of another name`,
        },
      ];
  }
  if (action !== "replace" && action !== "delete") return [];
  if (type === "aws_ebs_volume" && volume !== undefined) {
    const name = `${host}/${volume}`;
    if (facts.deleteVolumes.includes(name)) return [];
    if (moves(resource)) return [{ address, words: `${change.words}: ${stays}`, unless: rebuilds(facts, host) }];
    return [{ address, words: `${change.words}, with all data on it`, unless: `when its data may go: --yes-delete-volume ${name}` }];
  }
  if (holdsData.test(type))
    return [
      { address, words: `${change.words}, with all data in it`, unless: "Ingot makes nothing of that kind: do it by hand if it is meant" },
    ];
  const own = known.find((h) => addresses.instance(h.host) === address);
  if (own?.volumes.length && !facts.replace.includes(own.host)) {
    // The stack as a whole is taken down, or the host is out of it: its machine goes and its volumes stay, as was asked.
    if (action === "delete") return [];
    // Half made by a run that was killed: Terraform marks it, and no inventory has ever known it, so nothing was written by it.
    if (resource.action_reason === "replace_because_tainted" && !facts.inventory?.hosts.some((h) => h.host === own.host)) return [];
    const volumes = own.volumes.map((v) => v.name).join(", ");
    if (moves(resource))
      return [{ address, words: `${change.words}: ${own.host} holds data (${volumes}), and ${stays}`, unless: rebuilds(facts, own.host) }];
    return [
      {
        address,
        words: `${change.words}: ${own.host} holds data (${volumes}); its volumes would stay and be attached to the new machine`,
        unless: `when it may be made anew: --replace ${own.host}`,
      },
    ];
  }
  return [];
}

function verdictOf(host: AwsHost, changes: Change[], stack: AwsStack, inventory: Inventory | undefined): HostVerdict {
  const address = host.count === undefined ? addresses.instance(host.host) : addresses.fleet(host.host);
  const own = changes.find((c) => c.address === address);
  const others = changes.filter((c) => c !== own && c.host === host.host).map((c) => c.words);
  const record = inventory?.hosts.find((h) => h.host === host.host);
  const say = (fate: HostVerdict["fate"], words: string[]): HostVerdict => ({ host: host.host, fate, words: [...words, ...others] });
  if (own?.action === "create" || !record) {
    const size = `${host.type} in ${host.zones.join(", ")}, image ${host.image.digest ? short(host.image.digest) : host.image.id}`;
    return say("created", [host.count === undefined ? `a new machine, ${size}` : `${host.count} new machines, ${size}`]);
  }
  const made = new Set(changes.flatMap((c) => (c.action === "update" ? [] : c.address)));
  const stay = host.volumes.flatMap((v) => (made.has(addresses.volume(host.host, v.name)) ? [] : v.name)).join(", ");
  if (own?.action === "replace")
    return say("replaced", [`its machine is made anew${stay && `; its data volumes (${stay}) stay and are attached again`}`]);
  if (own?.action === "delete") return say("deleted", ["its machine goes"]);
  return say(own ? "changed" : "stays", [...(own ? [own.words] : []), ...digests(host, stack, record)]);
}

/** What Terraform overlooks on a machine that stays. */
function digests(host: AwsHost, { stack }: AwsStack, record: Inventory["hosts"][number]): string[] {
  if (host.count !== undefined) return []; // its launch template has both, and Terraform shows it
  const words: string[] = [];
  if (record.ami !== host.image.id)
    words.push(
      `the image is ${short(record.imageDigest || record.ami)} and stays, the stack's is ${short(host.image.digest || host.image.id)}: \`ingot up ${stack} --on aws --replace ${host.host}\` boots it`,
    );
  if (record.generation !== host.generation)
    words.push(
      `it is to become another generation, ${short(host.generation)} in place of ${short(record.generation)}: \`ingot apply ${stack} --on aws\``,
    );
  else if (record.userData !== sha256(host.userData))
    words.push("its user-data differs in form alone: nothing has to be done, since it is read at first boot only");
  return words;
}

/** The verdict for people. */
export function say(verdict: Verdict): string {
  const lines = verdict.hosts.flatMap(({ host, fate, words }) => [
    `${verdict.stack}/${host} ${fate === "stays" && !words.length ? "stays as it is" : fate === "stays" ? "stays" : `is ${fate}`}`,
    ...words.map((w) => `  ${w}`),
  ]);
  const others = verdict.changes.filter((c) => c.host === undefined);
  if (others.length) lines.push("beside the hosts", ...others.map((c) => `  ${c.words}`));
  if (verdict.drift.length) lines.push("changed by somebody else", ...verdict.drift.map((d) => `  ${d}`));
  if (verdict.refused.length) lines.push("REFUSED", ...verdict.refused.flatMap((r) => [`  ${r.words}`, `    ${r.unless}`]));
  if (!verdict.changes.length && !verdict.drift.length) lines.push("nothing changes on EC2");
  return lines.join("\n");
}
