// What listens at an address and port: the keys that say so, and what follows for outputs, firewall, waiting hosts and checks. Services,
// supervisor's programs and uWSGI's vassals have it; servers that are on loopback or at the host's address have the end of this file.
import { nearest } from "../lib/diagnostics.ts";
import { choice, either, integer, list, object, optional, type Schema, text, withDefault } from "../lib/schema.ts";
import type { Path } from "../lib/yaml.ts";
import { type CheckDraft, type Compiled, type Host, inside, type Kind, type Problem, type StepDraft, stranger } from "./kind.ts";
import { ipv4AndPort } from "./names.ts";
import type { Reach } from "./plan.ts";
import type { Output } from "./value.ts";

const hostNames = list(text({ pattern: "^[a-z0-9][a-z0-9_-]*$", expected: "the name of a host of the stack" }), { minItems: 1 });
export const reachSchema: Schema<Reach> = either([choice(["world", "stack"]), hostNames]);
/** Of servers with `listen: private`. */
export const allowHosts = optional({
  ...hostNames,
  description: "The hosts of the stack that reach it, when it listens beyond loopback; all when left out",
});

export const listenerKeys = {
  listens: optional(
    text({
      pattern: `^${ipv4AndPort}$`,
      description: "Where it accepts connections, as `127.0.0.1:8000`: it counts as started once it does",
      expected: "an address and port such as `127.0.0.1:8000`",
    }),
  ),
  open_to: withDefault(
    {
      ...reachSchema,
      description: "Who may reach what it listens on, when that is not loopback: anybody, the stack's other hosts, or a list of these",
    },
    "world",
  ),
  start_seconds: withDefault(integer({ minimum: 1, maximum: 600, description: "How long it may take to start" }), 60),
};

/** Ports of what Ingot does not start itself: a unit as its user wrote it, Docker's containers. */
export const opens = withDefault(
  list(
    object({
      port: integer({ minimum: 1, maximum: 65535, description: "The port" }),
      protocol: withDefault(choice(["tcp", "udp"], { description: "Its protocol" }), "tcp"),
      from: withDefault({ ...reachSchema, description: "Who may reach it: anybody, the stack's other hosts, or a list of these" }, "world"),
    }),
    { description: "Ports that it listens on beyond loopback" },
  ),
  [],
);

export interface Listener {
  listens?: string;
  open_to: Reach;
}

const portOf = ({ listens }: Listener): number | undefined => (listens ? Number(listens.split(":")[1]) : undefined);
const isLoopback = ({ listens }: Listener): boolean => Boolean(listens?.startsWith("127."));

export const bindsOf = (value: Listener): number[] => {
  const port = portOf(value);
  return port === undefined ? [] : [port];
};

export const listenerOutputs = (value: Listener, at: string): Record<string, Output> => ({
  ...(value.listens && {
    address: {
      parts: [isLoopback(value) ? value.listens : `${at}:${portOf(value)}`],
      description: "Where it is reached, as `127.0.0.1:8000`",
    },
  }),
});

/** Hosts that are to reach a port must be others of the stack, with an address by which a firewall knows them. */
export const reachProblems = (reach: Reach | undefined, host: Host, path: Path): Problem[] =>
  (Array.isArray(reach) ? reach : []).flatMap((name, i): Problem[] => {
    if (host.peers.some((p) => p.name === name)) return [];
    const near = nearest(
      name,
      host.peers.map((p) => p.name),
    );
    return [
      {
        code: "ING1423",
        path: [...path, i],
        message: name === host.name ? `${name} is this host itself` : `\`${name}\` is not a host of the stack with an address`,
        hint: near
          ? `did you mean \`${near}\`?`
          : host.peers.length
            ? `hosts with an address: ${host.peers.map((p) => p.name).join(", ")}`
            : "add the other host, and give it an `address:`",
      },
    ];
  });

export const listenerProblems = (value: Listener, host: Host): Problem[] => {
  const problems = reachProblems(value.open_to, host, ["open_to"]);
  const [address = ""] = value.listens?.split(":") ?? [];
  // At an address that the host has not, nothing can listen.
  if (value.listens !== undefined && !isLoopback(value) && !["0.0.0.0", host.address].includes(address))
    problems.push({
      code: "ING1449",
      path: ["listens"],
      message: `${host.name} has no address ${address}`,
      hint: `write 127.0.0.1 for this host alone, 0.0.0.0 for others${host.address === undefined ? "" : `, or its address, ${host.address}`}`,
    });
  return problems;
};

type Awaited = ReturnType<NonNullable<Kind["awaited"]>>;

/** The step that waits until a server answers at all. */
export const reachableAt = (address: string, port: number | undefined): StepDraft => ({
  action: "reachable",
  args: { address, port },
  timeoutSeconds: 600,
});

export const listenerAwaited = (value: Listener, at: string): Awaited =>
  value.listens === undefined || isLoopback(value)
    ? { unreachable: "listens on loopback alone", hint: "write `listens: 0.0.0.0:<port>` and `open_to: stack`" }
    : reachableAt(at, portOf(value));

export const listenerPorts = (value: Listener): Compiled["ports"] =>
  isLoopback(value) ? [] : bindsOf(value).map((port) => ({ port, protocol: "tcp", from: value.open_to }));

/** It listens; and where that is loopback, nobody else comes in. */
export function listenerChecks(value: Listener): CheckDraft[] {
  const [address, port] = value.listens?.split(":") ?? [];
  if (!address || !port) return [];
  return [
    inside("tcp", { host: isLoopback(value) ? address : "127.0.0.1", port: Number(port), open: true, within: 15 }, "listens"),
    ...(isLoopback(value) ? [stranger("tcp", { port: Number(port), open: false }, "closed")] : []),
  ];
}

// --- Servers with `listen: loopback` or `private` ---

/** A server that is to listen at the host's address needs one. */
export const privateProblems = (listen: string, host: Host, allow?: string[]): Problem[] => [
  ...(listen === "private" && host.address === undefined
    ? [
        {
          code: "ING1423",
          path: ["listen"],
          message: `${host.name} has no \`address:\` to listen at`,
          hint: "add one, and `network:` to the stack",
        },
      ]
    : []),
  ...(allow && listen !== "private"
    ? [
        {
          code: "ING1423",
          path: ["allow"],
          message: "nobody comes from elsewhere to a server that listens on loopback",
          hint: "write `listen: private`",
        },
      ]
    : reachProblems(allow, host, ["allow"])),
];

export const privatePorts = ({ listen, allow }: { listen: string; allow?: string[] }, port: number): Compiled["ports"] =>
  listen === "private" ? [{ port, protocol: "tcp", from: allow ?? "stack" }] : [];

export const privateAwaited = (kind: string, listen: string, at: string, port: number): Awaited =>
  listen === "private"
    ? reachableAt(at, port)
    : { unreachable: "listens on loopback alone", hint: `write \`${kind}: { listen: private }\`` };
