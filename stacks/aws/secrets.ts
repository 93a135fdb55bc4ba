// The secrets' stores on EC2: SSM Parameter Store (SecureString) and Secrets Manager. What Ingot generates is made here once, and kept.
import type { SecretStore } from "../secrets.ts";
import type { Aws } from "./api.ts";
import { call, codeOf, isMissing } from "./errors.ts";
import { names } from "./shape.ts";

/** The tag of what Ingot generated; what somebody put there has none. */
export const generated = { Key: "ingot:made-by", Value: "generate" };
const tags = (stack: string) => [{ Key: names.tags.stack, Value: stack }, generated];

/** Source of the limits: AWS Systems Manager User Guide, "Managing parameter tiers": 4 KB in the standard tier, 8 KB in the advanced one. */
export function parameterStore(aws: Aws): SecretStore {
  const get = async (stack: string, name: string): Promise<string | undefined> => {
    const { GetParameterCommand } = await import("@aws-sdk/client-ssm");
    const ssm = await aws.ssm();
    try {
      const { Parameter } = await ssm.send(new GetParameterCommand({ Name: names.parameter(stack, name), WithDecryption: true }));
      return Parameter?.Value;
    } catch (error) {
      if (isMissing(error)) return undefined;
      return call(`read the parameter ${names.parameter(stack, name)}`, () => Promise.reject(error));
    }
  };
  return {
    get,
    async create(stack, name, value) {
      const { PutParameterCommand } = await import("@aws-sdk/client-ssm");
      const ssm = await aws.ssm();
      const Name = names.parameter(stack, name);
      try {
        await ssm.send(
          new PutParameterCommand({
            Name,
            Value: value,
            Type: "SecureString",
            Tier: Buffer.byteLength(value) > 4096 ? "Advanced" : "Standard",
            Overwrite: false,
            Tags: tags(stack),
          }),
        );
      } catch (error) {
        if (codeOf(error) !== "ParameterAlreadyExists") return call(`make the parameter ${Name}`, () => Promise.reject(error));
      }
      // Somebody may have been faster: then theirs counts.
      return (await get(stack, name)) ?? value;
    },
    placeOf: (stack, name) =>
      `the SSM parameter ${names.parameter(stack, name)} (\`aws ssm put-parameter --name ${names.parameter(stack, name)} --type SecureString --value file://<file>\`)`,
  };
}

export function secretsManager(aws: Aws): SecretStore {
  const get = async (stack: string, name: string): Promise<string | undefined> => {
    const { GetSecretValueCommand } = await import("@aws-sdk/client-secrets-manager");
    const client = await aws.secretsManager();
    try {
      return (await client.send(new GetSecretValueCommand({ SecretId: names.secret(stack, name) }))).SecretString;
    } catch (error) {
      // One that is scheduled for deletion gives InvalidRequestException, and counts as none until it is asked back.
      if (isMissing(error) || codeOf(error) === "InvalidRequestException") return undefined;
      return call(`read the secret ${names.secret(stack, name)}`, () => Promise.reject(error));
    }
  };
  return {
    get,
    async create(stack, name, value) {
      const { CreateSecretCommand, RestoreSecretCommand } = await import("@aws-sdk/client-secrets-manager");
      const client = await aws.secretsManager();
      const Name = names.secret(stack, name);
      try {
        await client.send(new CreateSecretCommand({ Name, SecretString: value, Tags: tags(stack) }));
      } catch (error) {
        if (!/^(InvalidRequestException|ResourceExistsException)$/.test(codeOf(error)))
          return call(`make the secret ${Name}`, () => Promise.reject(error));
        // It is there: somebody's who was faster, or one that is scheduled for deletion, which is asked back.
        if ((await get(stack, name)) === undefined)
          await call(`restore the secret ${Name}`, () => client.send(new RestoreSecretCommand({ SecretId: Name })));
      }
      return (await get(stack, name)) ?? value;
    },
    placeOf: (stack, name) =>
      `the secret ${names.secret(stack, name)} (\`aws secretsmanager create-secret --name ${names.secret(stack, name)} --secret-string file://<file>\`)`,
  };
}
