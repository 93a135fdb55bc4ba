// Every capability by the name that recipes call it by.
import type { Capability } from "../capability.ts";
import { backup } from "./backup.ts";
import { certbot } from "./certbot.ts";
import { clock } from "./clock.ts";
import { cloudInit } from "./cloud-init.ts";
import { docker } from "./docker.ts";
import { firewall } from "./firewall.ts";
import { getmail } from "./getmail.ts";
import { git } from "./git.ts";
import { kernel } from "./kernel.ts";
import { mail } from "./mail.ts";
import { memcached } from "./memcached.ts";
import { network } from "./network.ts";
import { nfs } from "./nfs.ts";
import { nginx } from "./nginx.ts";
import { postgresql } from "./postgresql.ts";
import { python } from "./python.ts";
import { rabbitmq } from "./rabbitmq.ts";
import { redis } from "./redis.ts";
import { ssh } from "./ssh.ts";
import { supervisor } from "./supervisor.ts";
import { system } from "./system.ts";
import { uwsgi } from "./uwsgi.ts";

export const capabilities = {
  kernel,
  system,
  "cloud-init": cloudInit,
  network,
  clock,
  ssh,
  firewall,
  python,
  nginx,
  certbot,
  postgresql,
  redis,
  memcached,
  rabbitmq,
  docker,
  supervisor,
  uwsgi,
  mail,
  getmail,
  nfs,
  git,
  backup,
} satisfies Record<string, Capability>;
