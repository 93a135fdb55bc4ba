// What must never stand in a synthesised stack, looked for in the JSON itself, so that a mistake in a construct is found as surely as a
// stack that asks for it. synth.ts calls it before it writes anything.
import { gunzipSync } from "node:zlib";
import { type AwsStack, id, names } from "./shape.ts";
import type { TerraformJson } from "./synth.ts";

export interface Broken {
  rule: keyof typeof rules;
  /** Terraform's address of the resource. */
  address: string;
  /** What is wrong with which host, and what to do. */
  message: string;
}

/** All rules that the stack breaks, in the order of `rules`. */
export function broken(json: TerraformJson, { hosts }: Pick<AwsStack, "hosts">): Broken[] {
  const resources = Object.entries(json.resource ?? {}).flatMap(([type, all]) =>
    Object.entries(all).map(([name, values]): Resource => ({ type, name, values })),
  );
  return (Object.keys(rules) as (keyof typeof rules)[]).flatMap((rule) =>
    resources.flatMap((resource) =>
      rules[rule](resource, { hosts, resources }).map((message) => ({ rule, address: `${resource.type}.${resource.name}`, message })),
    ),
  );
}

type Values = Record<string, unknown>;
interface Resource {
  type: string;
  /** Its logical id. */
  name: string;
  values: Values;
}
interface Around extends Pick<AwsStack, "hosts"> {
  resources: Resource[];
}
/** What is wrong with a resource, in words; nothing for most. */
type Rule = (resource: Resource, around: Around) => string[];

/** Ports at which databases, caches and queues take orders: nobody's but the stack's. */
const privatePorts: Record<number, string> = {
  1433: "SQL Server",
  2379: "etcd",
  3306: "MySQL",
  4369: "Erlang's port mapper",
  5432: "PostgreSQL",
  5672: "RabbitMQ",
  6379: "Redis",
  6432: "PgBouncer",
  9042: "Cassandra",
  9200: "Elasticsearch",
  11211: "memcached",
  15672: "RabbitMQ's management",
  27017: "MongoDB",
};

/** Policies of AWS's own that a role may have, and why no policy of the stack's takes their place. */
const managed: Record<string, string> = {
  "policy/AmazonSSMManagedInstanceCore": "the SSM agent's calls know no resources",
  "policy/service-role/AWSDataLifecycleManagerServiceRole": "snapshots that are not made yet have no ARN",
};

/** ARNs that may end in something unknown, and why. */
const open: RegExp[] = [
  // Secrets Manager appends six characters of its own to a secret's name.
  /:secret:ingot\/[^*?]+-\?{6}$/,
  // A host's reports bear the id of its instance, which does not exist yet.
  /\/stacks\/[^*?/]+\/reports\/[^*?/]+\/\*$/,
];

/** What backups are in has names of pgBackRest's and restic's own. */
const belowPrefix = /:s3:::[a-z0-9-]+\/[^*?]+\/\*$/;

const plainSecrets: [RegExp, string][] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----/, "a private key"],
  [/\b(AKIA|ASIA)[A-Z0-9]{16}\b/, "an access key of AWS"],
  [/\b[a-z][a-z0-9+.-]*:\/\/[^\s:/@"'${}]+:[^\s:/@"'${}]+@/, "a url with a password"],
];

const rules = {
  "database-port": (resource) =>
    ingressOf(resource).flatMap(({ from, to, cidr }) =>
      isWorld(cidr)
        ? Object.entries(privatePorts)
            .filter(([port]) => Number(port) >= from && Number(port) <= to)
            .map(
              ([port, what]) =>
                `port ${port} (${what}) of ${hostOf(resource)} would be open to the world: \`open_to: stack\` where it is declared`,
            )
        : [],
    ),

  "undeclared-port": (resource, { hosts }) => {
    const host = hosts.find((h) => id(h.host) === hostOf(resource));
    return ingressOf(resource).flatMap(({ from, to, protocol, cidr }) => {
      const declared = host?.ports.some(
        (p) =>
          p.from === "world" && p.port === from && p.port === to && p.protocol === protocol && (from !== 22 || host.sshFrom.includes(cidr)),
      );
      return isWorld(cidr) && !declared
        ? [
            `${from === to ? `port ${from}` : `ports ${from} to ${to}`} of ${hostOf(resource)} would be open to the world, and nothing declares it`,
          ]
        : [];
    });
  },

  metadata: ({ type, values }) => {
    if (type !== "aws_instance" && type !== "aws_launch_template") return [];
    const [options = {}] = blocks(values.metadata_options);
    return [
      ...(options.http_tokens === "required"
        ? []
        : ["its metadata would be told without a token (IMDSv1): `http_tokens` is to be required"]),
      ...(options.http_put_response_hop_limit === 1
        ? []
        : ["its metadata would be told to containers and whoever it forwards for: `http_put_response_hop_limit` is to be 1"]),
    ];
  },

  encryption: ({ type, values }) => {
    const disks =
      type === "aws_ebs_volume"
        ? [values]
        : type === "aws_instance"
          ? [...(values.root_block_device ? [] : [{}]), ...blocks(values.root_block_device), ...blocks(values.ebs_block_device)]
          : type === "aws_launch_template"
            ? blocks(values.block_device_mappings).flatMap((m) => blocks(m.ebs))
            : [];
    return disks.filter((d) => String(d.encrypted) !== "true").map(() => "it has a disk that would not be encrypted");
  },

  permissions: ({ type, values }) => {
    if (type === "aws_iam_role_policy_attachment") {
      const arn = String(values.policy_arn);
      return Object.keys(managed).some((m) => arn.endsWith(`:aws:${m}`)) ? [] : [`${arn} is more than its hosts need`];
    }
    if (type !== "aws_iam_role_policy" && type !== "aws_iam_policy") return [];
    return statementsOf(values.policy)
      .filter((s) => s.Effect === "Allow")
      .flatMap((s) => [
        ...(s.NotAction || s.NotResource ? ["it allows all but something: say what it allows"] : []),
        ...list(s.Action)
          .filter((a) => a.includes("*"))
          .map((a) => `it allows the action ${a}: name those that are used`),
        ...list(s.Resource)
          .filter((r) => /[*?]/.test(r) && ![...open, ...(s.Sid === names.backups ? [belowPrefix] : [])].some((o) => o.test(r)))
          .map((r) => `it allows ${list(s.Action).join(", ")} on ${r}: name the resources`),
      ]);
  },

  "public-bucket": ({ type, values }) => {
    if (type === "aws_s3_bucket_acl" || type === "aws_s3_bucket")
      return /^public-|^authenticated-read$/.test(String(values.acl ?? "")) ? [`its objects would be anybody's (${values.acl})`] : [];
    if (type === "aws_s3_bucket_public_access_block")
      return ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"]
        .filter((k) => values[k] !== true)
        .map((k) => `\`${k}\` is to be true`);
    if (type !== "aws_s3_bucket_policy") return [];
    const anybody = (principal: unknown): boolean =>
      principal === "*" || (typeof principal === "object" && list((principal as Values | null)?.AWS).includes("*"));
    return statementsOf(values.policy)
      .filter((s) => s.Effect === "Allow" && anybody(s.Principal))
      .map(() => "its policy lets anybody in");
  },

  "secret-in-user-data": ({ type, name, values }) => {
    if (type !== "aws_instance" && type !== "aws_launch_template") return [];
    // A launch template's `user_data` is base64, an instance's is text.
    const given = [
      typeof values.user_data_base64 === "string" ? decoded(values.user_data_base64) : "",
      typeof values.user_data === "string" ? (type === "aws_launch_template" ? decoded(values.user_data) : values.user_data) : "",
    ].join("\n");
    return plainSecrets
      .filter(([pattern]) => pattern.test(given))
      .map(
        ([, what]) => `the user-data of ${name} holds ${what}, which whoever may describe it can read: \`{ secret: name }\` in its place`,
      );
  },

  tags: ({ type, values }) => {
    const { stack, host, generation, image, volume, mount } = names.tags;
    const wanted: Record<string, string[]> = {
      aws_instance: ["Name", stack, host, generation, image],
      aws_launch_template: ["Name", stack, host, generation, image],
      aws_ebs_volume: ["Name", stack, host, volume, mount],
    };
    const given =
      type === "aws_launch_template" ? blocks(values.tag_specifications).find((s) => s.resource_type === "instance")?.tags : values.tags;
    const lacking = (wanted[type] ?? []).filter((tag) => !(given as Values | undefined)?.[tag]);
    return lacking.length ? [`it has no tag ${lacking.join(", ")}, by which it is found again`] : [];
  },

  "termination-protection": ({ type, name, values }, { resources }) => {
    const holds = resources.some(
      (r) => r.type === "aws_volume_attachment" && String(r.values.instance_id) === `\${aws_instance.${name}.id}`,
    );
    return type === "aws_instance" && holds && values.disable_api_termination !== true
      ? ["it has data, and one call would end it: `disable_api_termination` is to be true"]
      : [];
  },
} satisfies Record<string, Rule>;

/** A block stands alone or in a list. */
const blocks = (value: unknown): Values[] =>
  (Array.isArray(value) ? value : value === undefined || value === null ? [] : [value]) as Values[];
const list = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : typeof value === "string" ? [value] : []);
const isWorld = (cidr: string): boolean => /\/0$/.test(cidr);

/** The logical id of the host that a rule of its security group is about; such a rule stands alone, or inside its group. */
const hostOf = ({ name, values }: Resource): string =>
  /aws_security_group\.(\w[\w-]*)\.id/.exec(String(values.security_group_id))?.[1] ?? name;

interface Ingress {
  from: number;
  to: number;
  protocol: string;
  cidr: string;
}

function ingressOf({ type, values }: Resource): Ingress[] {
  const rule = (of: Values, protocol: unknown, cidrs: unknown[]): Ingress[] => {
    const all = String(protocol) === "-1";
    return cidrs
      .flatMap(list)
      .map((cidr) => ({ from: all ? 0 : Number(of.from_port), to: all ? 65535 : Number(of.to_port), protocol: String(protocol), cidr }));
  };
  if (type === "aws_vpc_security_group_ingress_rule") return rule(values, values.ip_protocol, [values.cidr_ipv4, values.cidr_ipv6]);
  if (type === "aws_security_group_rule")
    return values.type === "ingress" ? rule(values, values.protocol, [values.cidr_blocks, values.ipv6_cidr_blocks]) : [];
  if (type !== "aws_security_group") return [];
  return blocks(values.ingress).flatMap((of) => rule(of, of.protocol, [of.cidr_blocks, of.ipv6_cidr_blocks]));
}

const statementsOf = (policy: unknown): Values[] => blocks((JSON.parse(String(policy)) as Values).Statement);

/** The text of user-data. Source: cloud-init documentation, "User data formats", gzip. */
function decoded(base64: string): string {
  const bytes = Buffer.from(base64, "base64");
  return (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString("utf8");
}
