import { everywhere } from "../capability.ts";

export const supervisor = everywhere("supervisor, which runs programs", { packages: ["supervisor"], disabled: ["supervisor.service"] });
