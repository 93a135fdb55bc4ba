import { everywhere } from "../capability.ts";

export const memcached = everywhere("memcached", { packages: ["memcached"], disabled: ["memcached.service"] });
