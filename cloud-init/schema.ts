// The schema of a stack's file: what stands around the kinds, and every kind's own below its key.
import { choice, type Infer, integer, map, number, object, optional, type Schema, text } from "../lib/schema.ts";
import { awsHostSchema, awsStackSchema } from "./aws.ts";
import { dnsName, ipv4 } from "./names.ts";
import { kinds } from "./resources/index.ts";

/** A name that can be part of a machine's name, a file's name and a unit's name. */
export const nameSchema = text({ pattern: "^[a-z0-9][a-z0-9_-]*$", expected: "a name of lower-case letters, digits, `-` and `_`" });
const anything: Schema<unknown> = {};

const hostHead = {
  image: text({ description: "The recipe (images/<name>.yaml) whose image the host boots" }),
  domain: optional(
    text({
      pattern: `^${dnsName}$`,
      description: "The host's domain: with the hostname it makes the fqdn",
      expected: "a domain in lower case",
    }),
  ),
  address: optional(
    text({
      pattern: `^${ipv4}$`,
      description: "Its fixed address in the stack's `network:`",
      expected: "an IPv4 address",
    }),
  ),
  count: optional(
    integer({
      minimum: 1,
      maximum: 100,
      description: "So many machines of a host without data: an Auto Scaling group on EC2; here one machine stands for all",
    }),
  ),
  limits: optional(
    object(
      {
        cpus: optional(number({ minimum: 0.1, maximum: 128, description: "So many processors' time" })),
        memory: optional(
          text({ pattern: "^[1-9][0-9]*(MiB|GiB)$", description: "So much memory, and no swap", expected: "a size such as `1GiB`" }),
        ),
      },
      {
        description:
          "What a machine on this computer may use, so that it is as small as the host will be. On EC2 the instance type says it",
      },
    ),
  ),
  aws: optional(awsHostSchema),
};
const head = object(hostHead);

/** What stands before the kinds, and the hostname, which is a kind whose value every other may ask for. */
export type HostDeclaration = Infer<typeof head> & { hostname?: string };

const external = "declare one that runs elsewhere below `externals:`";
/** What people of other systems look for. */
const instead: Record<string, string> = {
  mariadb: `Ingot makes PostgreSQL servers (\`databases:\`); ${external}`,
  mysql: `Ingot makes PostgreSQL servers (\`databases:\`); ${external}`,
  mongodb: `Ingot makes PostgreSQL servers (\`databases:\`), which have jsonb; ${external}`,
  sqlite:
    "a SQLite database is a file: give the application's user a directory for it below `directories:`, on a volume if it is to outlive the machine",
  cron: "jobs are `timers:`, which take cron's own expressions: `{ cron: '*/10 * * * *' }`",
  crons: "jobs are `timers:`, which take cron's own expressions: `{ cron: '*/10 * * * *' }`",
  hosts: "`etc_hosts:`",
  apt: "`packages:` and `archives:`",
  sources: "`archives:`",
  motd: "a file: `files: { /etc/motd: { content: … } }`",
  ssl: "`certificates:`",
  tls: "`certificates:`",
  acme: "`certificates: { name: { issuer: letsencrypt } }`",
  letsencrypt: "`certificates: { name: { issuer: letsencrypt } }`",
  postfix: "`mail:`",
  getmail: "`mailboxes:`",
  celery: "a worker is a program: `services:` or `supervisor:`, with its command",
  gunicorn: "a program: `services: { web: { command: gunicorn …, socket: true } }`",
  podman: "`docker:`",
  containers: "what keeps one running is a program: `services: { app: { user: …, groups: [docker], command: docker run --rm … } }`",
  nftables: "`firewall:`",
  iptables: "`firewall:`",
  ufw: "`firewall:`",
};

const hostSchema: Schema<HostDeclaration> = {
  ...head,
  "x-instead": instead,
  properties: {
    ...head.properties,
    ...Object.fromEntries(kinds.map((k) => [k.key, k.shape === "one" ? k.schema : map(k.schema, k.names ?? nameSchema)])),
  },
} as Schema<HostDeclaration>;

export const stackSchema = object({
  stack: { ...nameSchema, description: "The stack's name, as its file is called" },
  vars: optional(
    map(
      object({
        default: optional({ ...anything, description: "Its value unless another is given; it has the type of it" }),
        type: optional(choice(["text", "number", "flag", "list"], { description: "Of one that has no default, and must be given" })),
        description: optional(text({ description: "What it is for" })),
      }),
      nameSchema,
      { description: "Values that several places share or that differ between environments, used as `{ var: name }`" },
    ),
  ),
  network: optional(
    text({
      pattern: "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$",
      description: "The hosts' own network, such as 10.1.1.0/24",
      expected: "a network such as `10.1.1.0/24`",
    }),
  ),
  aws: optional(awsStackSchema),
  hosts: map(hostSchema, nameSchema, { minProperties: 1, description: "The hosts that belong together, by name" }),
});
