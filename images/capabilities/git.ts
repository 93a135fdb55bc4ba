import { everywhere } from "../capability.ts";

export const git = everywhere("git", { packages: ["git"] });
