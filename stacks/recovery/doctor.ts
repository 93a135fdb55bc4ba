// What is wrong with a stack, for three in the morning: what is dead, who depends on it, and the command to type next. What machines say of
// themselves (stacks/recovery/doctor.py) and what their checks say become findings here: data in, data out. Called by `ingot doctor`.
import type { HostPlan, StackPlan } from "../../cloud-init/plan.ts";
import type { Machine } from "../target.ts";
import { unitsOf } from "../units.ts";
import type { CheckResult } from "../verify.ts";
import { age, backupSettings } from "./backups.ts";

/** `dead`: it does nothing. `wrong`: it is not as declared. `soon`: it will be one of the two. */
export type Severity = "dead" | "wrong" | "soon";

export interface Finding {
  host: string;
  severity: Severity;
  /** The resource, where it is one's. */
  resource?: string;
  what: string;
  /** What is wrong because of it, or may be: resources that need it. */
  needed: string[];
  /** Resources that it needs and that are unwell themselves: mend those first. */
  because: string[];
  /** Ends of logs that speak of it. */
  log: string[];
  /** Commands, the likeliest first. */
  next: string[];
}

/** What doctor.py prints; times in seconds since 1970, sizes in bytes. */
export interface Examined {
  units: { unit: string; state: string; result: string; status: number; restarts: number; since: number | null; log: string[] }[];
  disks: { mount: string; used?: number; inodes?: number; free?: number; error?: string }[];
  memory: { total: number; available: number; killed: string[] };
  certificates: { path: string; days: number }[];
  logs: Record<string, string[]>;
  backups: string[];
}

/** Days before its end at which a certificate should long have been renewed. */
const renewDays = 14;
const full = 0.9;
/** Bytes below which a disk that is 95 % full has no room: a piece of PostgreSQL's log. */
const piece = 16 * 2 ** 20;

const fullness = ({ used = 0, inodes = 0 }: Examined["disks"][number]): number => Math.max(used, inodes);
const hasNoRoom = (disk: Examined["disks"][number]): boolean =>
  disk.error !== undefined || fullness(disk) > 0.99 || (fullness(disk) >= 0.95 && (disk.free ?? 0) < piece);

/** While a host runs it is its backups that need what is backed up; the model has it the other way around, since a restore comes before it. */
function whileRunning(needs: Map<string, Set<string>>): Map<string, Set<string>> {
  const restored = [...needs].flatMap(([resource, others]) => (others.has("backup") ? [resource] : []));
  const turned = new Map([...needs].map(([resource, others]) => [resource, new Set([...others].filter((r) => r !== "backup"))]));
  return restored.length ? turned.set("backup", new Set([...(turned.get("backup") ?? []), ...restored])) : turned;
}

/** All that are reached from one, without itself. */
function reached(from: string, edges: Map<string, Set<string>>): Set<string> {
  const found = new Set<string>();
  const visit = (one: string): void => {
    for (const other of edges.get(one) ?? [])
      if (!found.has(other)) {
        found.add(other);
        visit(other);
      }
  };
  visit(from);
  found.delete(from);
  return found;
}

/** Where the manuals' own chapters begin: "the most common source of errors are wrong file system permissions". */
const isOwnership = (check: string): boolean => ["path", "contents", "acl", "user", "group"].includes(check);

/** Logs of a program's own that speak of a resource. */
const logsFor: [RegExp, string][] = [
  [/nginx|^site\//, "/var/log/nginx/"],
  [/^(postgresql|database|role|grant)/, "/var/log/postgresql/"],
  [/^supervis/, "/var/log/supervisor/"],
  [/^(uwsgi|emperor)/, "/var/log/uwsgi/"],
  [/^redis/, "/var/log/redis/"],
  [/^rabbitmq/, "/var/log/rabbitmq/"],
  [/^mail/, "/var/log/mail"],
];
const ownLogs = (resource: string, logs: Examined["logs"]): string[] =>
  logsFor.flatMap(([like, folder]) =>
    like.test(resource)
      ? Object.entries(logs).flatMap(([path, lines]) => (path.startsWith(folder) ? lines.map((l) => `${path}: ${l}`) : []))
      : [],
  );

/** A machine that cannot be asked. @param state in words: "is stopped" */
export function unreachable(plan: HostPlan, machine: Machine | undefined, state: string, console: string[], hasBackup: boolean): Finding {
  const name = `${plan.stack}/${plan.host}`;
  const off = machine?.state === "stopped";
  return {
    host: plan.host,
    severity: "dead",
    what: `the machine ${state}`,
    needed: Object.keys(plan.origins),
    because: [],
    log: console.slice(-8),
    next: [
      ...(off ? [`ingot start ${plan.stack}`] : []),
      ...(machine && !off ? [`ingot logs ${name} --console`] : []),
      ...(hasBackup
        ? [`ingot rebuild ${name} --dry-run`]
        : [`ingot down ${plan.stack} && ingot up ${plan.stack}   # data on volumes stays`]),
    ],
  };
}

/**
 * What is wrong on a machine that answers: causes before what follows from them, ownership and modes before all else.
 * @param model resource → resources that come before it, directly
 */
export function findingsOf(plan: HostPlan, model: Map<string, Set<string>>, examined: Examined, checks: CheckResult[]): Finding[] {
  const name = `${plan.stack}/${plan.host}`;
  const needs = whileRunning(model);
  const neededBy = new Map<string, Set<string>>();
  for (const [resource, others] of needs) for (const other of others) neededBy.set(other, (neededBy.get(other) ?? new Set()).add(resource));
  const units = new Map(unitsOf(plan.generation).map(({ unit, resource }) => [unit, resource]));
  const failed = checks.filter((c) => !c.ok);
  const volumes = new Map(plan.volumes.map((v) => [v.mount, `volume/${v.name}`]));
  const unwell = new Set([
    ...failed.map((c) => c.resource),
    ...examined.units.flatMap((u) => units.get(u.unit) ?? []),
    ...examined.disks.flatMap((d) => (hasNoRoom(d) ? (volumes.get(d.mount) ?? []) : [])),
  ]);
  const about = (resource: string | undefined): Pick<Finding, "needed" | "because"> =>
    resource === undefined
      ? { needed: [], because: [] }
      : {
          needed: [...reached(resource, neededBy)].sort(),
          because: [...reached(resource, needs)].filter((r) => unwell.has(r)).sort(),
        };
  const found: Finding[] = [];
  const owned = new Set<Finding>();
  for (const unit of examined.units) {
    const resource = units.get(unit.unit);
    const ago = unit.since === null ? "" : `, ${age(Date.now() / 1000 - unit.since)} ago`;
    found.push({
      host: plan.host,
      severity: unit.state === "failed" ? "dead" : "wrong",
      ...(resource !== undefined && { resource }),
      what:
        unit.state === "failed"
          ? `${unit.unit} has failed (${unit.result}${unit.status ? `, exit code ${unit.status}` : ""}${ago})`
          : `${unit.unit} was started again ${unit.restarts} times`,
      ...about(resource),
      log: [...unit.log, ...(resource === undefined ? [] : ownLogs(resource, examined.logs))],
      next:
        resource === undefined
          ? [`ingot exec ${name} -- systemctl status --no-pager ${unit.unit}`, `ingot exec ${name} -- systemctl restart ${unit.unit}`]
          : [
              `ingot logs ${name} ${resource}`,
              // What a timer runs has failed until it is run again; an apply has nothing to change there.
              units.has(unit.unit.replace(/\.service$/, ".timer"))
                ? `ingot exec ${name} -- systemctl start ${unit.unit}   # now, instead of at its next time`
                : `ingot apply ${name} ${resource}`,
            ],
    });
  }
  for (const resource of new Set(failed.map((c) => c.resource))) {
    const own = failed.filter((c) => c.resource === resource);
    // Its unit's end says more.
    if (found.some((f) => f.resource === resource)) continue;
    // Of the late backups there is a line of its own.
    if (resource === "backup" && own.every((c) => c.id === "backup:in-time")) continue;
    const owns = own.some((c) => isOwnership(c.check));
    const finding: Finding = {
      host: plan.host,
      severity: own.some((c) => c.check === "unit" || c.seen !== "inside") ? "dead" : "wrong",
      resource,
      what: own.map((c) => c.message).join("; "),
      ...about(resource),
      log: ownLogs(resource, examined.logs),
      next: owns
        ? [`ingot apply ${name} ${resource}   # brings back owner and mode of what is declared itself`, ...chownOf(name, own)]
        : [`ingot logs ${name} ${resource}`, `ingot apply ${name} ${resource}`],
    };
    found.push(finding);
    if (owns) owned.add(finding);
  }
  for (const disk of examined.disks) {
    const worst = fullness(disk);
    if (disk.error === undefined && worst < full) continue;
    const resource = volumes.get(disk.mount);
    const of = (disk.inodes ?? 0) > (disk.used ?? 0) ? "inodes" : "space";
    found.push({
      host: plan.host,
      severity: hasNoRoom(disk) ? "dead" : "soon",
      ...(resource !== undefined && { resource }),
      what:
        disk.error !== undefined
          ? `${disk.mount} cannot be read: ${disk.error}`
          : `${disk.mount} is ${Math.round(worst * 100)} % full (${of})`,
      ...about(resource),
      log: [],
      next:
        disk.error !== undefined
          ? [`ingot rebuild ${name} --dry-run`]
          : [
              `ingot exec ${name} -- du -xh --max-depth=2 ${disk.mount} | sort -h | tail`,
              resource !== undefined
                ? "another `size:` of the volume, then `ingot apply`: it grows while it is in use"
                : "of a container this is the disk of the computer that runs it: `df .ingot`, `ingot image prune`, `ingot gc`",
            ],
    });
  }
  if (examined.memory.available < examined.memory.total * 0.05 || examined.memory.killed.length)
    found.push({
      host: plan.host,
      severity: examined.memory.killed.length ? "wrong" : "soon",
      what: examined.memory.killed.length
        ? "programs were killed for want of memory within a day"
        : `${Math.round((100 * examined.memory.available) / examined.memory.total)} % of the memory is left`,
      needed: [],
      because: [],
      log: examined.memory.killed,
      next: [`ingot exec ${name} -- ps -eo rss,unit,args --sort=-rss | head`],
    });
  for (const { path, days } of examined.certificates.filter((c) => c.days < renewDays)) {
    const resource = `certificate/${path
      .split("/")
      .pop()
      ?.replace(/\.crt$/, "")}`;
    found.push({
      host: plan.host,
      severity: days < 0 ? "dead" : "soon",
      resource,
      what: days < 0 ? `${path} expired ${age(-days * 86_400)} ago` : `${path} expires in ${age(days * 86_400)}`,
      ...about(resource),
      log: [],
      next: [`ingot logs ${name} ${resource}`, `ingot apply ${name} ${resource}`],
    });
  }
  for (const late of examined.backups)
    found.push({
      host: plan.host,
      severity: "wrong",
      resource: "backup",
      what: late,
      ...about("backup"),
      log: [],
      next: [`ingot logs ${name} backup`, `ingot backup ${name}`],
    });
  // What has the fewest causes first; of those, what is owned wrongly, what is dead, what will be.
  const rank = (f: Finding): number => f.because.length * 100 + (owned.has(f) ? 0 : 10) + ["dead", "wrong", "soon"].indexOf(f.severity);
  return found.sort((a, b) => rank(a) - rank(b));
}

/** Of a whole stack: where a host's backups cannot be asked for because the machine of the one that keeps them is dead, that one comes first. */
export function afterStores(found: Finding[], stack: StackPlan): Finding[] {
  const dead = new Set(found.filter((f) => f.severity === "dead" && f.resource === undefined).map((f) => f.host));
  const keeperOf = (host: string) => stack.hosts.flatMap((h) => (h.host === host ? (backupSettings(h)?.on?.host ?? []) : []))[0];
  const [first, later]: [Finding[], Finding[]] = [[], []];
  for (const finding of found) {
    const keeper = finding.resource === "backup" ? keeperOf(finding.host) : undefined;
    if (keeper !== undefined && dead.has(keeper)) later.push({ ...finding, because: [...finding.because, `${keeper}:backup-store`] });
    else first.push(finding);
  }
  return [...first, ...later];
}

/** "/a: owner is root, expected huey" → the command. */
const chownOf = (name: string, checks: CheckResult[]): string[] =>
  checks.flatMap((c) =>
    [...c.message.matchAll(/(\/\S+): (owner|group|mode) is \S+, expected (\S+?)(?: at most)?(?=;|,|$)/g)].map(
      ([, path, what, expected]) =>
        `ingot exec ${name} -- ${what === "owner" ? "chown" : what === "group" ? "chgrp" : "chmod"} ${expected} ${path}`,
    ),
  );
