// ingot bake: the short form of `ingot image bake`; with --on aws, an AMI of the image.
import { parseArgs } from "node:util";
import { RefusedError, UsageError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { type Io, size } from "./command.ts";
import { bakeCommand, only } from "./image.ts";

export const help = `Bake a recipe's image, unless it is there already.

Usage: ingot bake [recipe] [--locked]
       ingot bake [recipe] --on aws [--region <region>] [--encrypt | --kms-key <arn>] [--locked] [--ssh-from <cidr>] [--subnet <id>]
       ingot bake [recipe] --on aws --direct [--region <region>] [--encrypt | --kms-key <arn>] [--locked]

The recipe's name is that of its file, images/<name>.yaml; it may be left out where there is but one.

With --on aws the result is an AMI, known by the digest of the image: one that the account has in the region is found, and nothing is
done. It is made by Packer, on an instance that goes away again, or, with --direct, of the disk that is made here, which is uploaded
block by block: an upload that was stopped goes on where it was when the same command is given again.

Options:
  --locked         fail rather than lock anew when a locked package is gone from the archives
  --direct         upload the disk that is made here, in place of provisioning an instance
  --region <region>
                   where the AMI is to be, in place of where the project's stacks are
  --encrypt        encrypt the AMI with the account's default key
  --kms-key <arn>  encrypt the AMI with this key
  --ssh-from <cidr>  who may reach the ssh of Packer's instance, in place of this computer's own address; more than one may be given
  --subnet <id>    where Packer's instance is launched, in place of the default VPC
  --digest <sha256>
                   fail when the recipe's image is another than this: for what has planned for one, such as Terraform
  --json           print the result as JSON`;

export async function main(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      locked: { type: "boolean" },
      digest: { type: "string" },
      direct: { type: "boolean" },
      region: { type: "string" },
      encrypt: { type: "boolean" },
      "kms-key": { type: "string" },
      "ssh-from": { type: "string", multiple: true },
      subnet: { type: "string" },
    },
  });
  if (positionals.length > 1) throw new UsageError("bake takes one recipe", "ingot bake --help");
  const name = positionals[0] ?? only(io.project, "bake");
  if (values.digest !== undefined) await refuseAnother(name, values.digest, io);
  if (io.on === "aws") return bakeAmi(name, values, io);
  const foreign = (["direct", "region", "encrypt", "kms-key", "ssh-from", "subnet"] as const).find((o) => values[o] !== undefined);
  if (foreign) throw new UsageError(`--${foreign} is about AMIs`, `ingot bake ${name} --on aws --${foreign}`);
  return bakeCommand(name, values.locked, io);
}

async function refuseAnother(name: string, wanted: string, { project }: Io): Promise<void> {
  const [{ imageDigest }, { loadRecipe }] = await Promise.all([import("../images/digest.ts"), import("../images/recipe.ts")]);
  const digest = imageDigest(project, loadRecipe(project, name));
  if (digest === wanted) return;
  throw new RefusedError(
    `the image of ${name} is ${digest === undefined ? "not locked" : short(digest)} now, and ${short(wanted)} is asked for`,
    "the recipe has changed since: plan anew (with CDKTF: synthesise anew)",
  );
}

interface Wanted {
  locked?: boolean;
  direct?: boolean;
  region?: string;
  encrypt?: boolean;
  "kms-key"?: string;
  "ssh-from"?: string[];
  subnet?: string;
}

async function bakeAmi(name: string, wanted: Wanted, { json, project, progress, print }: Io): Promise<number> {
  const [{ awsOf }, { bucketOf }, { makeAmi }, { placeOf }] = await Promise.all([
    import("../stacks/aws/api.ts"),
    import("../stacks/aws/bucket.ts"),
    import("../stacks/aws/ami/make.ts"),
    import("../stacks/aws/settings.ts"),
  ]);
  const key = wanted["kms-key"];
  if (key !== undefined && !/^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(key|alias)\/.+/.test(key))
    throw new RefusedError(
      `\`${key}\` is no ARN of a key`,
      "it looks like arn:aws:kms:eu-central-1:123456789012:key/…: `aws kms list-keys`",
    );
  const sshFrom = wanted["ssh-from"];
  const wrong = sshFrom?.find((cidr) => !/^\d+(\.\d+){3}\/\d+$/.test(cidr) && !/^[0-9a-f:]+\/\d+$/i.test(cidr));
  if (wrong !== undefined) throw new UsageError(`\`${wrong}\` is no range of addresses`, "--ssh-from takes one such as 198.51.100.7/32");
  if (wanted.direct && (sshFrom ?? wanted.subnet) !== undefined)
    throw new UsageError("--direct launches no instance", "leave --ssh-from and --subnet out");
  const place = placeOf(project, wanted.region);
  const aws = await awsOf(place.region);
  const { ami, made, seconds, upload } = await makeAmi(project, aws, name, {
    way: wanted.direct ? "direct" : "packer",
    bucket: await bucketOf(aws, place.bucket),
    builder: { sshFrom, subnet: wanted.subnet },
    encryption: key !== undefined ? { key } : wanted.encrypt ? "default" : "account",
    locked: wanted.locked ? true : undefined,
    progress,
  });
  if (json) print(JSON.stringify({ image: name, made, seconds, ami, ...(upload && { upload }) }, null, 2));
  else {
    const done = made ? `made in ${seconds.toFixed(1)} s` : "is there already: nothing to do";
    print(`${name} ${short(ami.digest)}: ${ami.id} in ${ami.region} ${done}`);
    if (upload) {
      const { sent, resumed } = upload.blocks;
      const before = resumed ? `, ${resumed} were there from a run before` : "";
      print(
        `  ${upload.snapshot}: ${sent} blocks (${size(sent * 524_288)}) sent${before}${upload.parent ? `, on top of ${upload.parent}` : ""}`,
      );
    }
  }
  return 0;
}
