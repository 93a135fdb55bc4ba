// What scripts/build.mjs compiles into `ingot:validators`.
import { stackSchema } from "../cloud-init/schema.ts";
import { recipeSchema } from "../images/recipe-schema.ts";
import { releaseSchema } from "../images/release-schema.ts";

export const schemas = { stack: stackSchema, recipe: recipeSchema, release: releaseSchema };
