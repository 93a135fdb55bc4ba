import { everywhere } from "../capability.ts";

export const getmail = everywhere("getmail, which fetches mail", { packages: ["getmail6"] });
