// What images/release.yaml may say: its JSON Schema, and by it its type. Only data, because the build compiles it to a validator.
import { choice, either, type Infer, list, map, object, optional, text } from "../lib/schema.ts";

const region = text({ pattern: "^[a-z]{2}(-[a-z]+)+-[0-9]$", expected: "a region such as `eu-central-1`" });
const keyName = text({
  pattern: "^(alias/.+|arn:aws[a-z-]*:kms:.+|(mrk-)?[0-9a-f-]{32,40})$",
  expected: "a KMS key: `alias/images`, its id, or its ARN",
});
const regions = optional(list(region, { minItems: 1, description: "Where the AMIs are to be" }));
const key = optional(
  either([keyName, map(keyName, region, { minProperties: 1 })], {
    description: "What they are encrypted with there: one alias that each region has, or a key for each region; as they are without it",
  }),
);
const channel = optional(choice(["candidate", "stable"], { description: "The recipe's channel that names them there; none without it" }));

export const releaseSchema = object(
  {
    recipes: list(text({ minLength: 1 }), { minItems: 1, description: "Recipes, whose AMIs as they stand now are released" }),
    from: optional({ ...region, description: "The region that they were made in; that of the project's stacks without it" }),
    regions,
    key,
    channel,
    accounts: map(
      object({
        role: optional(
          text({
            pattern: "^(arn:aws[a-z-]*:iam::[0-9]{12}:role/.+|[A-Za-z0-9+=,.@_-]{1,64})$",
            expected: "a role's name or ARN",
            description: "The role that is assumed there; none for the account that the AMIs are in",
          }),
        ),
        regions,
        key,
        channel,
      }),
      text({ pattern: "^[0-9]{12}$", expected: "an account's number: 12 digits, in quotes when it begins with 0" }),
      { minProperties: 1, description: "Accounts by number; what one says comes before what is said above" },
    ),
  },
  { description: "Where AMIs go: recipes × accounts × regions" },
);
export type ReleaseDeclaration = Infer<typeof releaseSchema>;
