// EC2 for the tests: moto on loopback, an AMI for the recipe's image, and the real Terraform with the real AWS provider, where somebody has
// built it (scripts/terraform-provider.sh).
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { AutoScalingClient } from "@aws-sdk/client-auto-scaling";
import { EBSClient } from "@aws-sdk/client-ebs";
import { CreateTagsCommand, EC2Client, RegisterImageCommand } from "@aws-sdk/client-ec2";
import { IAMClient } from "@aws-sdk/client-iam";
import { KMSClient } from "@aws-sdk/client-kms";
import { S3Client } from "@aws-sdk/client-s3";
import { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { SSMClient } from "@aws-sdk/client-ssm";
import { STSClient } from "@aws-sdk/client-sts";
import type { Aws } from "../stacks/aws/api.ts";
import { environmentFor, region } from "./moto.ts";

/** The folder that scripts/terraform-provider.sh builds into. */
export const providerFolder = (): string =>
  process.env.INGOT_PROVIDER_AWS ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "ingot/terraform-provider-aws");

/** What the binary says of itself; Terraform wants a version in the mirror's path, and any in the range that stacks ask for will do. */
const version = "6.48.0";

/**
 * A CLI configuration of Terraform's that takes the provider from this computer and asks no registry; undefined where it is not built, and in the short
 * suite, which has no half an hour for it.
 * Source: "CLI Configuration File", `provider_installation`, in Terraform's documentation.
 */
export function terraformConfiguration(): { env: Record<string, string>; remove(): void } | undefined {
  const binary = join(providerFolder(), "terraform-provider-aws");
  if (!process.env.INGOT_TEST_LONG || !existsSync(binary)) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "ingot-terraform-"));
  const unpacked = join(
    folder,
    "mirror/registry.terraform.io/hashicorp/aws",
    version,
    `linux_${process.arch === "x64" ? "amd64" : process.arch}`,
  );
  mkdirSync(unpacked, { recursive: true });
  symlinkSync(binary, join(unpacked, `terraform-provider-aws_v${version}_x5`));
  const file = join(folder, "terraformrc");
  writeFileSync(file, `provider_installation {\n  filesystem_mirror {\n    path = "${join(folder, "mirror")}"\n  }\n}\n`);
  return { env: { TF_CLI_CONFIG_FILE: file, CHECKPOINT_DISABLE: "1" }, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Clients at an endpoint that try once. @param milliseconds to wait for an answer */
export function clientsAt(endpoint: string, where: string = region, milliseconds = 30_000): Aws {
  const requestHandler = { requestTimeout: milliseconds, throwOnRequestTimeout: true };
  const settings = { region: where, endpoint, maxAttempts: 1, requestHandler };
  return {
    region: where,
    ec2: async () => new EC2Client(settings),
    ebs: async () => new EBSClient(settings),
    iam: async () => new IAMClient(settings),
    kms: async () => new KMSClient(settings),
    ssm: async () => new SSMClient(settings),
    secretsManager: async () => new SecretsManagerClient(settings),
    s3: async () => new S3Client({ ...settings, forcePathStyle: true }),
    sts: async () => new STSClient(settings),
    autoScaling: async () => new AutoScalingClient(settings),
    account: async () => "123456789012",
    caller: async () => "arn:aws:sts::123456789012:user/moto",
  };
}

export const clientAt = (endpoint: string): EC2Client =>
  new EC2Client({ region, endpoint, credentials: { accessKeyId: "test", secretAccessKey: "test" } });

/** Registers an AMI that is tagged with the digest of an image; gives its id. */
export async function registerImage(endpoint: string, digest: string): Promise<string> {
  const ec2 = clientAt(endpoint);
  const { ImageId = "" } = await ec2.send(
    new RegisterImageCommand({
      Name: `ingot ${digest.slice(0, 12)}`,
      Architecture: "x86_64",
      RootDeviceName: "/dev/xvda",
      VirtualizationType: "hvm",
    }),
  );
  await ec2.send(new CreateTagsCommand({ Resources: [ImageId], Tags: [{ Key: "ingot:image", Value: digest }] }));
  return ImageId;
}

export { environmentFor, region };
