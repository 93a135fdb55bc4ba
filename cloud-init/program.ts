// A program of the declaration's own: what runs, as whom, with what around it, and what it may do. Services and timers are systemd's;
// supervisor and uWSGI's emperor are themselves root and know no environment file, so a script gives root away for them.
import { shell, unitEnvironment, unitPath, unitWord } from "../lib/quote.ts";
import { type Infer, integer, list, map, object, optional, ref, text, withDefault } from "../lib/schema.ts";
import { type CheckDraft, type Host, inside, type Problem } from "./kind.ts";
import { environmentName } from "./names.ts";
import { application, commandOf, commandProblems, currentOf, environmentProblems, envPath, sharedOf } from "./resources/application.ts";
import { directory } from "./resources/directory.ts";
import { mountsAt } from "./resources/mount.ts";
import { versionIn } from "./resources/postgresql.ts";
import { user } from "./resources/user.ts";
import { bytesOf } from "./resources/volume.ts";
import { settingsGroupOf } from "./settings.ts";
import { isSensitive, type Value, valueSchema } from "./value.ts";

/** The keys that say what a program runs with. */
export const programKeys = {
  command: text({
    description: "What runs: a program of the application's virtualenv or of the system, and its arguments. No shell reads it",
  }),
  user: ref("user", { description: "Whom it runs as" }),
  groups: withDefault(list(ref("group"), { description: "Supplementary groups of the service alone. `docker` equals root" }), []),
  application: optional(ref("application", { description: "Runs in this application's live release, with its environment" })),
  env: withDefault(
    map(valueSchema, environmentName, {
      description: "Environment beside the application's; no secrets",
    }),
    {},
  ),
  writable: withDefault(
    list(text({ pattern: "^/", expected: "an absolute path" }), {
      description: "Paths it may write to, beside the directories that its user owns",
    }),
    [],
  ),
};

const sandbox: Record<string, string> = {
  NoNewPrivileges: "yes",
  PrivateTmp: "yes",
  PrivateDevices: "yes",
  ProtectSystem: "strict",
  ProtectHome: "yes",
  ProtectHostname: "yes",
  ProtectClock: "yes",
  ProtectKernelTunables: "yes",
  ProtectKernelModules: "yes",
  ProtectKernelLogs: "yes",
  ProtectControlGroups: "yes",
  ProtectProc: "invisible",
  RestrictAddressFamilies: "AF_UNIX AF_INET AF_INET6",
  RestrictNamespaces: "yes",
  RestrictRealtime: "yes",
  RestrictSUIDSGID: "yes",
  LockPersonality: "yes",
  SystemCallArchitectures: "native",
  SystemCallFilter: "@system-service",
  CapabilityBoundingSet: "",
  UMask: "0027",
};
/** What Ingot leaves as systemd has it. */
const moreSandbox = ["AmbientCapabilities", "DeviceAllow", "MemoryDenyWriteExecute", "PrivateNetwork", "PrivateUsers"];

/** The keys of a program that systemd itself runs, beside those of every program: what it may use, and what it may do. */
export const unitKeys = {
  limits: withDefault(
    object(
      {
        memory: optional(
          text({
            pattern: "^[1-9][0-9]*(MiB|GiB)$",
            expected: "a size such as `512MiB`",
            description: "Memory; a process of it is killed at more (MemoryMax)",
          }),
        ),
        cpu: optional(
          text({
            pattern: "^[1-9][0-9]*%$",
            expected: "a share such as `150%`, where 100% is one processor",
            description: "Time on the processors, where 100% is one of them (CPUQuota)",
          }),
        ),
        tasks: optional(integer({ minimum: 1, maximum: 4194304, description: "Processes and threads (TasksMax)" })),
        open_files: optional(integer({ minimum: 64, maximum: 1048576, description: "Open files of a process (LimitNOFILE)" })),
      },
      { description: "What it may use, with all of its processes" },
    ),
    {},
  ),
  sandbox: withDefault(
    map(
      text({ pattern: "^[^\\n\\r\\\\]*$", expected: "one line" }),
      text({
        pattern: `^(${[...Object.keys(sandbox), ...moreSandbox].join("|")})$`,
        expected: `one of ${[...Object.keys(sandbox), ...moreSandbox].join(", ")}`,
      }),
      { description: "Other lines of its sandbox where it needs more, by systemd's own names: `{ ProtectHome: read-only }`" },
    ),
    {},
  ),
};
const unitSchema = object(unitKeys);
type UnitKeys = Infer<typeof unitSchema>;

/** What a program begins after, when the machine starts: servers of the same host that it may talk to. */
export const afterLine = (host: Host): string =>
  `After=network.target postgresql@${versionIn(host)}-main.service redis-server.service rabbitmq-server.service memcached.service${host.has("docker") ? " docker.service" : ""}`;

/** Paths that a program names: in its command, in its environment and its application's, and where it says that it writes. */
function pathsOf({ command, env, application: name, writable }: Runs & { command?: string }, host: Host): string[] {
  const app = name === undefined ? undefined : host.get(application, name);
  const values = Object.values({ ...app?.value.env, ...env }).flatMap((v) => (typeof v === "string" ? [v] : []));
  return [...(command?.split(" ") ?? []), ...values, ...writable];
}

/** Mounts of other hosts' directories that programs use: without these they do not begin. */
export function mountLines(programs: (Runs & { command?: string })[], host: Host): string[] {
  const mounts = mountsAt(
    programs.flatMap((p) => pathsOf(p, host)),
    host,
  ).map((m) => unitPath(m.name));
  return mounts.length ? [`RequiresMountsFor=${mounts.join(" ")}`] : [];
}

/** What a program runs with. */
interface Runs {
  user: string;
  groups: string[];
  application?: string;
  env: Record<string, Value>;
  writable: string[];
}
export interface Program extends Runs {
  command: string;
}

/** Its supplementary groups: those that were declared, and the one that reads its application's settings. */
export function groupsOf({ groups, application: name, user }: Runs, host: Host): string[] {
  const app = name === undefined ? undefined : host.get(application, name);
  const reads = app && settingsGroupOf(app, user);
  return [...groups, ...(reads ? [reads] : [])];
}

/** Where its programs are looked for. */
const searchPath = (app: string | undefined): string =>
  [...(app ? [`${currentOf(app)}/venv/bin`] : []), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].join(":");

/** Paths that it writes to. */
function writableOf({ user, application: app, writable }: Runs, host: Host): string[] {
  const own = host.all(directory).filter((d) => d.value.owner === user);
  return [...new Set([...own.map((d) => d.name), ...(app ? [sharedOf(app)] : []), ...writable])];
}
const readWrite = (paths: string[]): string[] => (paths.length ? [`ReadWritePaths=${paths.map((p) => `-${unitPath(p)}`).join(" ")}`] : []);

const sandboxLines = (own: Record<string, string> = {}): string[] =>
  Object.entries({ ...sandbox, ...own }).map(([name, value]) => `${name}=${value}`);

/** A program's limits by systemd's names. */
const limitsOf = ({ limits: { memory, cpu, tasks, open_files } }: Pick<UnitKeys, "limits">): Record<string, string> => ({
  ...(memory && { MemoryMax: String(bytesOf(memory)) }),
  ...(cpu && { CPUQuota: cpu }),
  ...(tasks && { TasksMax: String(tasks) }),
  ...(open_files && { LimitNOFILE: String(open_files) }),
});

/** That systemd holds the unit of a program to its limits. */
export function limitChecks(unit: string, value: Pick<UnitKeys, "limits">): CheckDraft[] {
  const { CPUQuota: _, ...limits } = limitsOf(value);
  const { cpu } = value.limits;
  const expected = { ...limits, ...(cpu && { CPUQuotaPerSecUSec: Number.parseInt(cpu, 10) * 10_000 }) };
  return Object.keys(expected).length ? [inside("limits", { unit, expected }, "limits")] : [];
}

/** The lines of [Service] that say what runs (its command, or other words), as whom, with what around it, and what it may do. */
export function programLines(value: Program & UnitKeys, host: Host, words: string[] = commandOf(value.command)): string[] {
  const app = value.application;
  const path = searchPath(app);
  const groups = groupsOf(value, host);
  return [
    `User=${value.user}`,
    ...(groups.length ? [`SupplementaryGroups=${groups.join(" ")}`] : []),
    ...(app ? [`WorkingDirectory=${unitPath(`${currentOf(app)}/app`)}`, `EnvironmentFile=${unitPath(envPath(app))}`] : []),
    `Environment=${unitEnvironment("PATH", path)}`,
    ...Object.entries(value.env).map(([k, v]) => `Environment=${unitEnvironment(k, host.parts(v).join(""))}`),
    `ExecSearchPath=${path}`,
    `ExecStart=${words.map(unitWord).join(" ")}`,
    ...Object.entries(limitsOf(value)).map(([name, limit]) => `${name}=${limit}`),
    ...sandboxLines(value.sandbox),
    ...readWrite(writableOf(value, host)),
  ];
}

/**
 * The lines of [Service] of a manager (supervisor, uWSGI's emperor) that runs these programs: their sandbox, and beyond it only what
 * root needs to become their users.
 */
export const managerLines = (programs: Runs[], writable: string[], host: Host): string[] => [
  ...sandboxLines({ CapabilityBoundingSet: "CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_KILL CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER" }),
  ...readWrite([...new Set([...programs.flatMap((p) => writableOf(p, host)), ...writable])]),
];

export const scriptOf = (name: string): string => `/etc/ingot/programs/${name}`;

/** What a manager that is root starts in a program's place: values for cloud-init/host/program.sh, which gives root away.
 * @param more `folder`: where it runs; `/` when it finds its own way, as uWSGI does at every reload. `anybody`: who is not root becomes it by
 * sudo, if sudo lets him */
export function programScript(value: Runs, words: string[], host: Host, more: { folder?: string; anybody?: true } = {}): string {
  const { application: app, user } = value;
  const { folder, anybody } = more;
  const variables = {
    PATH: searchPath(app),
    ...Object.fromEntries(Object.entries(value.env).map(([k, v]) => [k, host.parts(v).join("")])),
  };
  return [
    "#!/bin/sh",
    ...(anybody ? ['[ "$(id -u)" = 0 ] || exec sudo -- "$0" "$@"'] : []),
    `user=${shell(user)}`,
    `groups=${shell(groupsOf(value, host).join(","))}`,
    ...(folder === undefined ? [] : [`folder=${shell(folder)}`]),
    ...(app ? [`environment=${shell(envPath(app))}`] : []),
    `set -- ${words.map(shell).join(" ")} "$@"`,
    ...Object.entries(variables).map(([k, v]) => `export ${k}=${shell(v)}`),
    ". /usr/lib/ingot/program.sh",
    "",
  ].join("\n");
}

/** uWSGI takes SIGTERM for a reload. Source: uWSGI's "Managing the uWSGI server". */
export const stopSignalOf = (command: string): "QUIT" | "TERM" => (/^(\S*\/)?uwsgi\b/.test(command) ? "QUIT" : "TERM");

/** What is wrong with a program's command and environment. */
export function programProblems(value: Program, host: Host): Problem[] {
  const problems: Problem[] = [...environmentProblems(value.env), ...commandProblems(value.command, ["command"])];
  const app = value.application === undefined ? undefined : host.get(application, value.application);
  for (const [key, v] of Object.entries(value.env)) {
    if (isSensitive(host.parts(v)))
      problems.push({
        code: "ING1410",
        path: ["env", key],
        message: "a service's own environment stands in its unit, which everybody may read",
        hint: "put it into the application's `env:`",
      });
    if (app && Object.hasOwn(app.value.env, key))
      problems.push({
        code: "ING1427",
        path: ["env", key],
        message: `${key} is in the environment of ${app.id} too, and that one is what the program gets`,
        hint: "leave one of the two out",
        related: { id: app.id, message: "declared here" },
      });
  }
  return problems;
}

/** Directories that its user owns and mounts that it uses come first, and Docker when it may use it. */
export const programAfter = (value: Runs & { command?: string }, host: Host): string[] => [
  ...host
    .all(directory)
    .filter((d) => d.value.owner === value.user)
    .map((d) => d.id),
  ...([...value.groups, ...(host.get(user, value.user)?.value.groups ?? [])].includes("docker") ? ["docker"] : []),
  ...mountsAt(pathsOf(value, host), host).map((m) => m.id),
];
