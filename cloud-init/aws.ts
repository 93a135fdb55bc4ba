// The `aws:` of a stack and of its hosts: the shape on EC2, declared here because it stands in the stack's file; stacks/aws/ builds it.
// The other targets pass it by.
import { choice, either, flag, type Infer, integer, list, map, object, optional, text, withDefault } from "../lib/schema.ts";

const region = text({
  pattern: "^[a-z]{2}(-[a-z]+)+-[0-9]$",
  description: "The region, such as eu-central-1; all hosts of a stack are in one",
  expected: "a region such as `eu-central-1`",
});
const cidr = text({ pattern: "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$", expected: "addresses such as `203.0.113.0/24`" });
const size = text({ pattern: "^[1-9][0-9]*GiB$", description: "Its size", expected: "a size such as `16GiB`" });

/** What all hosts of a stack share on EC2. */
export const awsStackSchema = object(
  {
    region: optional(region),
    bucket: optional(
      text({
        pattern: "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description: "The S3 bucket for state, artifacts and reports; `ingot-<account>-<region>` when left out, made on first use",
        expected: "a bucket's name",
      }),
    ),
    state: withDefault(
      choice(["s3", "local"], { description: "Where Terraform's state is: in the bucket, locked, or on this computer for trying out" }),
      "s3",
    ),
    secrets: withDefault(
      choice(["parameter-store", "secrets-manager"], {
        description: "The secrets' store: SSM Parameter Store (SecureString) or Secrets Manager",
      }),
      "parameter-store",
    ),
    network: withDefault(
      either(
        [
          choice(["default", "own"]),
          object({ subnets: list(text({ pattern: "^subnet-[0-9a-f]+$", expected: "a subnet's id" }), { minItems: 1 }) }),
        ],
        { description: "`default`: the region's default VPC; `own`: a small VPC with the stack's `network:`; or subnets that are there" },
      ),
      "default",
    ),
    tags: withDefault(
      map(text(), text({ pattern: "^.{1,128}$", expected: "a tag's key" }), { description: "On everything that is made" }),
      {},
    ),
    alarms_to: optional(
      text({ pattern: "^arn:aws[a-z-]*:sns:", description: "An SNS topic that hears of alarms", expected: "the ARN of an SNS topic" }),
    ),
  },
  { description: "What all hosts of the stack share on EC2" },
);
export type AwsStackDeclaration = Infer<typeof awsStackSchema>;

/** One host's shape on EC2. */
export const awsHostSchema = object(
  {
    region: optional(region),
    zone: optional(
      text({
        pattern: "^[a-z]$",
        description: "The availability zone's letter; a data volume keeps its host in it",
        expected: "a letter such as `a`",
      }),
    ),
    zones: optional(
      list(text({ pattern: "^[a-z]$", expected: "a letter such as `a`" }), { minItems: 1, description: "Of a fleet: the zones' letters" }),
    ),
    type: withDefault(
      text({
        pattern: "^[a-z0-9-]+\\.[a-z0-9-]+$",
        description: "The instance type, one of the Nitro system's",
        expected: "an instance type such as `t3.small`",
      }),
      "t3.small",
    ),
    image: withDefault(
      either(
        [
          choice(["recipe"]),
          object({
            channel: text({
              pattern: "^(candidate|stable|/.+|arn:.+)$",
              description: "`stable` or `candidate` of the recipe, or an SSM parameter that holds the AMI's id",
              expected: "`stable`, `candidate`, or the name of an SSM parameter such as `/images/stable`",
            }),
          }),
          object({ ami: text({ pattern: "^ami-[0-9a-f]{8,17}$", expected: "an AMI's id" }) }),
        ],
        {
          description:
            "`recipe`: the AMI that is tagged with the recipe's digest; `{ channel: stable }`: the one that was promoted; `{ ami: … }`: one by its id",
        },
      ),
      "recipe",
    ),
    spot: withDefault(flag({ description: "A spot instance; not for a host with data" }), false),
    root: withDefault(size, "16GiB"),
    address: withDefault(
      choice(["elastic", "dynamic", "private"], {
        description: "Elastic IP, an address of the subnet's, or none that the world can reach",
      }),
      "elastic",
    ),
    ssh_from: withDefault(list(cidr, { description: "Who reaches port 22" }), ["0.0.0.0/0"]),
    dns: optional(
      object({
        zone: text({ description: "The Route53 hosted zone's name", expected: "a domain" }),
        names: withDefault(list(text(), { description: "Names in the zone; the host's fully qualified one when left out" }), []),
      }),
    ),
    snapshots: withDefault(
      object(
        {
          every: withDefault(choice(["6h", "12h", "24h", "never"]), "24h"),
          keep: withDefault(integer({ minimum: 1, maximum: 1000 }), 7),
        },
        { description: "Snapshots of data volumes by the Data Lifecycle Manager" },
      ),
      { every: "24h", keep: 7 },
    ),
    alarms: withDefault(
      flag({ description: "CloudWatch alarms: the system's check recovers the instance, the instance's own is told" }),
      true,
    ),
    restore: withDefault(
      map(text({ pattern: "^snap-[0-9a-f]+$", expected: "a snapshot's id" }), text(), {
        description: "Data volume by name: the snapshot that it is made from",
      }),
      {},
    ),
    health: withDefault(text({ pattern: "^/", description: "Of a fleet: the path that says a machine is well", expected: "a path" }), "/"),
  },
  { description: "The host's shape on EC2" },
);
export type AwsHostDeclaration = Infer<typeof awsHostSchema>;
