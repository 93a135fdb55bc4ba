import { everywhere } from "../capability.ts";

export const nginx = everywhere("nginx", { packages: ["nginx"], disabled: ["nginx.service"] });
