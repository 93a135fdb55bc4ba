// A server whose ssh key is known, so that programs of the host can reach it without asking anybody.
import { type Infer, list, object, text } from "../../lib/schema.ts";
import { inside, type Kind, kind } from "../kind.ts";

const schema = object({
  keys: list(
    text({
      pattern: "^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+$",
      expected: "a public key, such as `ssh-ed25519 AAAA…`",
      description: "One of its public keys: `ssh-keyscan` says them, its operator should",
    }),
    { minItems: 1, description: "Its public keys" },
  ),
});
type KnownHost = Infer<typeof schema>;

const keysPath = (name: string): string => `/etc/ingot/known-hosts/${name}`;

export const knownHost: Kind<KnownHost> = kind({
  kind: "known-host",
  key: "known_hosts",
  shape: "many",
  summary:
    "A server whose ssh keys every user of the host trusts, by its name: a deployment that fetches from it asks nobody, and talks to nobody else.",
  names: text({ pattern: "^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$", expected: "a host name" }),
  schema,
  examples: [
    "known_hosts:\n  git.example.org: { keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl] }\n",
  ],
  compile: ({ name, value }) => ({
    files: [
      { path: keysPath(name), mode: "0644", content: value.keys.map((k) => `${name} ${k}\n`).join("") },
      {
        path: `/etc/ssh/ssh_config.d/ingot-${name}.conf`,
        mode: "0644",
        content: `Host ${name}\n    GlobalKnownHostsFile ${keysPath(name)}\n    UserKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n`,
      },
    ],
  }),
  checks: ({ name }) => [inside("command", { argv: ["ssh-keygen", "-F", name, "-f", keysPath(name)] })],
});
