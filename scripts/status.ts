// ingot status: which machines there are, and how they are.
import { parseArgs } from "node:util";
import { compile } from "../cloud-init/compile.ts";
import { findStack, loadStack } from "../cloud-init/model.ts";
import { surroundingsOf } from "../cloud-init/surroundings.ts";
import { InputError, RefusedError } from "../lib/diagnostics.ts";
import { short } from "../lib/digest.ts";
import { publicSshKey, type SecretStore } from "../stacks/secrets.ts";
import { type Io, table } from "./command.ts";
import { notUp, targetOf } from "./machines.ts";
import { only, stackName } from "./stack.ts";

export const help = `Says which machines there are: state, image, generation, address, and where their ports answer on this computer; and the
public halves of the keys that their users were given by \`ssh_key: generate\`, for whoever is to let them in.

  ingot status [stack]

With a stack that is not up the exit code is 1.`;

export async function main(args: string[], io: Io): Promise<number> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const given = positionals.length ? only(positionals, "stack", "ingot status [stack]") : undefined;
  const target = await targetOf(io, given);
  const all = await target.find();
  const stack =
    given === undefined
      ? undefined
      : stackName(
          given,
          all.map((m) => m.stack),
          io,
        );
  const machines = all.filter((m) => stack === undefined || m.stack === stack);
  const keys = (
    await Promise.all([...new Set(machines.map((m) => m.stack))].map((name) => keysOf(name, given ?? name, target.secrets, io)))
  ).flat();
  if (io.json)
    io.print(
      JSON.stringify(
        machines.map((m) => ({
          ...m,
          keys: Object.fromEntries(keys.filter((k) => k.stack === m.stack && k.host === m.host).map((k) => [k.user, k.key])),
        })),
        null,
        2,
      ),
    );
  else if (!machines.length) {
    const { message, hint } = notUp(io, stack);
    io.print(`${message}; ${hint}`);
  } else {
    io.print(
      table([
        ["machine", "state", "image", "generation", "address", "since", "on this computer"],
        ...machines.map((m) => [
          `${m.stack}/${m.host}${machines.filter((o) => o.stack === m.stack && o.host === m.host).length > 1 ? ` ${m.instance}` : ""}`,
          m.state,
          short(m.imageDigest),
          short(m.generation),
          m.address,
          m.began,
          Object.entries(m.forwards)
            .map(([port, at]) => `${port} at ${at}`)
            .join(", "),
        ]),
      ]),
    );
  }
  if (!io.json && keys.length)
    io.print(`\n${table([["machine", "user", "public key"], ...keys.map((k) => [`${k.stack}/${k.host}`, k.user, k.key])])}`);
  return stack && !machines.length ? 1 : 0;
}

interface UserKey {
  stack: string;
  host: string;
  user: string;
  key: string;
}

/** The keys that the users of a stack were given; none of a stack whose file is gone or wrong, because its machines are there all the same. */
async function keysOf(stack: string, file: string, store: SecretStore, io: Io): Promise<UserKey[]> {
  try {
    const { hosts } = compile(loadStack(findStack(io.project, file), surroundingsOf(io.project)));
    const found = hosts.flatMap(({ host, secrets }) =>
      secrets.flatMap(({ name, generate, resource }) =>
        generate === "ssh-ed25519" && resource.startsWith("user/") ? [{ host, name, user: resource.slice("user/".length) }] : [],
      ),
    );
    const keys = await Promise.all(
      found.map(async ({ host, name, user }): Promise<UserKey[]> => {
        const value = await store.get(stack, name);
        return value === undefined ? [] : [{ stack, host, user, key: await publicSshKey(value) }];
      }),
    );
    return keys.flat();
  } catch (error) {
    if (error instanceof InputError || error instanceof RefusedError) return [];
    throw error;
  }
}
