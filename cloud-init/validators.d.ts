// Made by scripts/build.mjs from scripts/schemas.ts: ajv's validators, compiled ahead of time.
declare module "ingot:validators" {
  export const validators: Record<"stack" | "recipe" | "release", import("../lib/schema.ts").Validator>;
}
