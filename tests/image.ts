// The image that end-to-end tests boot. tests/run.ts bakes it before the first of them.
import { findImage } from "../images/store.ts";
import { projectAt, toolFolder } from "../lib/paths.ts";

/** The root tree of this clone's debian-12, or of $INGOT_TEST_ROOT; undefined: not baked (`npx ingot bake debian-12`). */
export const bakedRoot = (): string | undefined => process.env.INGOT_TEST_ROOT ?? findImage(projectAt(toolFolder), "debian-12")?.root;
