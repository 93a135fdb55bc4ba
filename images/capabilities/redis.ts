import { everywhere, owner } from "../capability.ts";

export const redis = everywhere("Redis", {
  packages: ["redis-server"],
  users: { redis: owner(601, "/var/lib/redis") },
  disabled: ["redis-server.service"],
});
