// Docker's daemon: how much its containers may take together, what they may log, which images it has.
import { type Infer, integer, map, object, optional, type Schema, text, withDefault } from "../../lib/schema.ts";
import { type Host, inStackFolder, inside, isThere, type Kind, kind, type Problem, pkg, stranger } from "../kind.ts";
import { opens, reachProblems } from "../listener.ts";
import { foldersAbove } from "./directory.ts";
import { user } from "./user.ts";
import { bytesOf } from "./volume.ts";

/** Where it keeps images, containers and its own volumes. */
const root = "/var/lib/docker";
const settingsPath = "/etc/docker/daemon.json";

const size = (more: { description: string }) =>
  text({ pattern: "^[1-9][0-9]*(MiB|GiB)$", expected: "a size such as `512MiB` or `1GiB`", ...more });
const anything: Schema<unknown> = {};

const schema = object({
  limits: withDefault(
    object(
      {
        cpu: optional(
          text({
            pattern: "^[1-9][0-9]*%$",
            expected: "a share such as `50%`",
            description: "Processor time: `50%` is half of one processor, `200%` is two",
          }),
        ),
        memory: optional(size({ description: "Memory; none of it is swapped out" })),
        tasks: optional(integer({ minimum: 1, maximum: 4194304, description: "Processes and threads" })),
      },
      { description: "What all containers may take together. What is left out has no limit" },
    ),
    {},
  ),
  logs: withDefault(
    text({
      pattern: "^[1-9][0-9]*(MB|GB)$",
      expected: "a size such as `10MB`",
      description: "What the log of one container may take on the disk; the oldest lines go first",
    }),
    "100MB",
  ),
  images: withDefault(
    map(
      object({
        archive: text({ description: "What `docker save` wrote, one image, beside the stack" }),
        sha256: text({ pattern: "^[0-9a-f]{64}$", expected: "64 hexadecimal digits in lower case", description: "Of the archive" }),
      }),
      text({
        pattern: "^[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$",
        expected: "an image's name, such as `runner` or `example/runner:1.2`",
      }),
      {
        description:
          "Images that the host has without asking a registry, by the name that it knows them by. One that is declared no more stays until somebody removes it",
      },
    ),
    {},
  ),
  settings: withDefault(
    map(anything, text(), { description: "Further settings of `/etc/docker/daemon.json`, such as `default-address-pools`" }),
    {},
  ),
  opens,
});
type Docker = Infer<typeof schema>;

/** Settings that Ingot makes itself, with what there is in their place. */
const own: Record<string, string> = {
  "cgroup-parent": "all containers run in docker.slice: `limits:`",
  "data-root": `it is ${root}: mount a volume there`,
  "exec-opts": "systemd keeps its containers",
  group: "who is in the group `docker` may use it",
  hosts: "it listens on its socket alone; from elsewhere: `docker -H ssh://<user>@<host>`",
  "live-restore": "containers go on while the daemon is started anew",
  "log-driver": "`logs:`",
  "log-opts": "`logs:`",
  pidfile: "systemd knows its process",
};

/** Two files of half the size each: the older one goes when the newer one is full. */
const logsOf = (logs: string): Record<string, string> => ({
  "max-file": "2",
  "max-size": `${Number.parseInt(logs, 10) * (logs.endsWith("GB") ? 500_000 : 500)}k`,
});

/** What is in /etc/docker/daemon.json. */
export const settingsOf = (value: Docker): string => {
  const settings = {
    ...value.settings,
    "cgroup-parent": "docker.slice",
    "exec-opts": ["native.cgroupdriver=systemd"],
    "live-restore": true,
    "log-driver": "json-file",
    "log-opts": logsOf(value.logs),
  };
  return `${JSON.stringify(settings, null, 2)}\n`;
};

/** What all containers may take together, in percent of one processor, bytes and processes. */
const limitsOf = ({ limits: { cpu, memory, tasks } }: Docker) => ({
  ...(cpu !== undefined && { cpu: Number.parseInt(cpu, 10) }),
  ...(memory !== undefined && { memory: bytesOf(memory) }),
  ...(tasks !== undefined && { tasks }),
});

const sliceOf = (value: Docker): string => {
  const { cpu, memory, tasks } = limitsOf(value);
  return [
    "[Unit]",
    "Description=All containers of Docker",
    `RequiresMountsFor=${root}`,
    "",
    "[Slice]",
    "CPUAccounting=yes",
    "MemoryAccounting=yes",
    "TasksAccounting=yes",
    ...(cpu === undefined ? [] : [`CPUQuota=${cpu}%`]),
    ...(memory === undefined ? [] : [`MemoryMax=${memory}`, "MemorySwapMax=0"]),
    ...(tasks === undefined ? [] : [`TasksMax=${tasks}`]),
    "",
  ].join("\n");
};

export const docker: Kind<Docker> = kind({
  kind: "docker",
  key: "docker",
  shape: "one",
  summary:
    "Docker's daemon. All its containers run in one slice, so that together they never take more than `limits:`, whatever each of them asks for. It listens on its socket alone, and who is in the group `docker` may use it, which equals root: such a user can start a container that sees the whole host. A volume mounted at `/var/lib/docker` keeps images and containers. Containers go on while the daemon is started anew. What a container publishes is a port of the host: declare it below `opens:`, or `verify` finds it open; with a `firewall:` it is closed until then.",
  schema,
  examples: [
    "users:\n  worker: { groups: [docker] }\nvolumes:\n  docker: { mount: /var/lib/docker, size: 20GiB, options: [nodev] }\ndocker: { limits: { cpu: 50%, memory: 1GiB, tasks: 200 }, logs: 10MB }\n",
    "docker:\n  settings: { default-address-pools: [{ base: 172.30.0.0/16, size: 24 }] }\n  opens: [{ port: 8080 }]\n",
  ],
  outputs: ({ value }) =>
    Object.fromEntries(
      Object.keys(value.images).map((name) => [`${name}.image`, { parts: [name], description: "The name of an image that it has" }]),
    ),
  awaited: () => ({ unreachable: "is there for its own host alone" }),
  binds: ({ value }) => value.opens.map((o) => o.port),
  after: (_, host) => foldersAbove(root, host),
  needs: () => [pkg("docker.io")],
  problems: ({ value }, host): Problem[] => [
    ...value.opens.flatMap((o, i) => reachProblems(o.from, host, ["opens", i, "from"])),
    ...Object.entries(own).flatMap(([key, hint]) =>
      key in value.settings ? [{ code: "ING1405", path: ["settings", key], message: `\`${key}\` is Ingot's own to set`, hint }] : [],
    ),
    ...Object.entries(value.images).flatMap(([name, { archive }]): Problem[] =>
      isThere(host, archive, "file")
        ? []
        : [{ code: "ING1401", path: ["images", name, "archive"], message: `there is no file \`${archive}\` beside the stack` }],
    ),
  ],
  compile: ({ value }, host) => ({
    containers: root,
    ports: value.opens,
    artifacts: Object.entries(value.images).map(([name, { archive, sha256 }]) => ({
      id: name,
      sha256,
      path: inStackFolder(host, archive),
    })),
    files: [
      { path: settingsPath, mode: "0644", content: settingsOf(value) },
      { path: "/etc/systemd/system/docker.slice", mode: "0644", content: sliceOf(value) },
      {
        path: "/etc/systemd/system/docker.service.d/ingot.conf",
        mode: "0644",
        // It stops before its containers do, so that it starts none of them anew meanwhile.
        content: `[Unit]\nRequires=docker.slice\nAfter=docker.slice\nRequiresMountsFor=${root}\n`,
      },
      // A container whose first process ignores SIGTERM would hold up the shutdown for as long as systemd waits by itself.
      { path: "/etc/systemd/system/docker-.scope.d/ingot.conf", mode: "0644", content: "[Scope]\nTimeoutStopSec=10\n" },
    ],
    steps: [
      ...["containerd.service", "docker.socket"].map((unit) => ({
        part: unit,
        action: "service",
        args: { unit },
        after: { parts: [], references: true },
      })),
      {
        part: "daemon",
        action: "service",
        args: { unit: "docker.service", inputs: [settingsPath], timeout: 60 },
        after: { parts: ["containerd.service", "docker.socket"], references: true },
        timeoutSeconds: 120,
      },
      ...Object.entries(value.images).map(([name, { sha256 }]) => ({
        part: `image-${name}`,
        action: "docker-image",
        args: { name, artifact: sha256, records: `${root}/ingot-images` },
        after: { parts: ["daemon"], references: true },
        timeoutSeconds: 600,
      })),
    ],
  }),
  checks: ({ value }, host) => [
    inside("unit", { name: "docker.service", active: true, enabled: true }),
    inside("docker", { root, settings: settingsPath }, "daemon"),
    inside("docker_slice", { slice: "docker.slice", ...limitsOf(value) }, "limits"),
    inside("path", { path: "/run/docker.sock", type: "socket", owner: "root", group: "docker", mode: "0660" }, "socket"),
    inside("group", { name: "docker", members: membersOf(host) }, "members"),
    ...Object.entries(value.images).map(([name, { sha256 }]) =>
      inside("docker_image", { name, record: `${root}/ingot-images/${sha256}` }, `image-${name}`),
    ),
    stranger("tcp", { port: 2375, open: false }, "closed"),
  ],
});

const membersOf = (host: Host): string[] => host.all(user).flatMap((u) => (u.value.groups.includes("docker") ? [u.name] : []));
