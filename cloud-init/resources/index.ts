// The list of kinds: adding one means its file and a line here. In the order of the docs: a host is named, peopled, given disks and
// files, services, applications, a front.
import type { Kind } from "../kind.ts";
import { application } from "./application.ts";
import { archive } from "./archive.ts";
import { backup } from "./backup.ts";
import { backupStore } from "./backup-store.ts";
import { certificate } from "./certificate.ts";
import { check } from "./check.ts";
import { clock } from "./clock.ts";
import { cloudConfig } from "./cloud-config.ts";
import { command } from "./command.ts";
import { database } from "./database.ts";
import { delivery } from "./delivery.ts";
import { directory } from "./directory.ts";
import { docker } from "./docker.ts";
import { emperor } from "./emperor.ts";
import { etcHost } from "./etc-host.ts";
import { exportKind } from "./export.ts";
import { external } from "./external.ts";
import { file } from "./file.ts";
import { firewall } from "./firewall.ts";
import { grant } from "./grant.ts";
import { group } from "./group.ts";
import { hostname } from "./hostname.ts";
import { knownHost } from "./known-host.ts";
import { link } from "./link.ts";
import { locale } from "./locale.ts";
import { logrotate } from "./logrotate.ts";
import { mail } from "./mail.ts";
import { mailbox } from "./mailbox.ts";
import { memcached } from "./memcached.ts";
import { mount } from "./mount.ts";
import { nginx } from "./nginx.ts";
import { packageKind } from "./package.ts";
import { postgresql } from "./postgresql.ts";
import { rabbitmq } from "./rabbitmq.ts";
import { redis } from "./redis.ts";
import { repository } from "./repository.ts";
import { role } from "./role.ts";
import { service } from "./service.ts";
import { site } from "./site.ts";
import { supervisor } from "./supervisor.ts";
import { supervisord } from "./supervisord.ts";
import { swap } from "./swap.ts";
import { timer } from "./timer.ts";
import { unit } from "./unit.ts";
import { user } from "./user.ts";
import { uwsgi } from "./uwsgi.ts";
import { volume } from "./volume.ts";

export const kinds: readonly Kind[] = [
  hostname,
  etcHost,
  clock,
  locale,
  group,
  user,
  knownHost,
  volume,
  swap,
  directory,
  file,
  link,
  exportKind,
  mount,
  archive,
  packageKind,
  backup,
  backupStore,
  postgresql,
  role,
  database,
  redis,
  rabbitmq,
  memcached,
  docker,
  external,
  application,
  grant,
  service,
  supervisord,
  supervisor,
  emperor,
  uwsgi,
  timer,
  unit,
  delivery,
  mail,
  mailbox,
  repository,
  command,
  logrotate,
  certificate,
  nginx,
  site,
  firewall,
  cloudConfig,
  check,
];
