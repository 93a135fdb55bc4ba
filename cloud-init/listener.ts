// What listens at an address and port: the keys that say so, and what follows for outputs, firewall, waiting hosts and checks. Services,
// supervisor's programs and uWSGI's vassals have it; servers that are on loopback or at the host's address have the end of this file.
import { choice, integer, optional, text, withDefault } from "../lib/schema.ts";
import { type CheckDraft, type Compiled, type Host, inside, type Kind, type Problem, type StepDraft, stranger } from "./kind.ts";
import type { Output } from "./value.ts";

export const listenerKeys = {
  listens: optional(
    text({
      pattern: "^[0-9.]+:[0-9]{1,5}$",
      description: "Where it accepts connections, as `127.0.0.1:8000`: it counts as started once it does",
      expected: "an address and port such as `127.0.0.1:8000`",
    }),
  ),
  open_to: withDefault(
    choice(["world", "stack"], {
      description: "Who may reach what it listens on, when that is not loopback: anybody, or the stack's other hosts",
    }),
    "world",
  ),
  start_seconds: withDefault(integer({ minimum: 1, maximum: 600, description: "How long it may take to start" }), 60),
};

export interface Listener {
  listens?: string;
  open_to: "world" | "stack";
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
export const privateProblems = (listen: string, host: Host): Problem[] =>
  listen === "private" && host.address === undefined
    ? [
        {
          code: "ING1423",
          path: ["listen"],
          message: `${host.name} has no \`address:\` to listen at`,
          hint: "add one, and `network:` to the stack",
        },
      ]
    : [];

export const privateAwaited = (kind: string, listen: string, at: string, port: number): Awaited =>
  listen === "private"
    ? reachableAt(at, port)
    : { unreachable: "listens on loopback alone", hint: `write \`${kind}: { listen: private }\`` };
