// A person who logs in, or the account of a daemon.
import { readFileSync } from "node:fs";
import { QuoteError, splitCommand, sudoersCommand } from "../../lib/quote.ts";
import { choice, flag, type Infer, integer, list, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import {
  type CheckDraft,
  fixedId,
  type Host,
  inStackFolder,
  inside,
  isBelow,
  isThere,
  kind,
  type Problem,
  pkg,
  type Resource,
  type StepDraft,
} from "../kind.ts";
import { accountName } from "../names.ts";
import { secretRef } from "../value.ts";
import { commandProblems } from "./application.ts";
import { volume } from "./volume.ts";

const publicKey =
  /^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/=]+( .*)?$/;

const schema = object({
  system: withDefault(flag({ description: "The account of a daemon: nobody logs in, no home is made" }), false),
  uid: optional(
    integer({
      minimum: 100,
      maximum: 59999,
      description:
        "Its number, and that of its own group. Left out, it follows from the name alone, so that data keeps its owner on every machine",
    }),
  ),
  home: optional(
    text({
      pattern: "^/",
      description: "Home directory: `/home/<name>` for a login user, `/nonexistent` for a system user",
      expected: "an absolute path",
    }),
  ),
  shell: optional(
    text({
      pattern: "^/",
      description: "`/bin/bash` for a login user, `/usr/sbin/nologin` for a system user",
      expected: "an absolute path",
    }),
  ),
  groups: withDefault(list(ref("group"), { description: "Supplementary groups. `docker` equals root" }), []),
  sudo: withDefault(
    choice(["none", "password", "passwordless"], {
      description: "What the user may do through sudo; `passwordless` writes a rule of its own, checked by visudo",
    }),
    "none",
  ),
  sudo_commands: withDefault(
    list(text({ pattern: "^/", expected: "a command by its absolute path, with its arguments" }), {
      description: "Commands that the user may run as root without a password, each with exactly these arguments",
    }),
    [],
  ),
  password_hash: optional({
    ...secretRef,
    description: "The hash of a password, as `openssl passwd -6` makes it. sshd still wants a key; sudo and the console take it",
  }),
  expires: optional(
    text({
      pattern: "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$",
      expected: 'a day such as `"2027-12-31"`, in quotes',
      description: "The last day on which the user may log in",
    }),
  ),
  ssh_keys: withDefault(
    list(text(), { description: "Public keys that may log in: files in the stack's folder, or the keys themselves" }),
    [],
  ),
  ssh_key: optional(
    choice(["generate"], {
      description: "An ed25519 key pair without passphrase of the user's own (`~/.ssh/id_ed25519`), kept in the secrets' store",
    }),
  ),
});
type User = Infer<typeof schema>;

export const uidOf = (user: Resource<User>): number => user.value.uid ?? fixedId(user.name, user.value.system);
export const homeOf = (user: Resource<User>): string => user.value.home ?? (user.value.system ? "/nonexistent" : `/home/${user.name}`);
const shellOf = (user: Resource<User>): string => user.value.shell ?? (user.value.system ? "/usr/sbin/nologin" : "/bin/bash");

/** Whether the user has a home of its own, in which keys may lie. */
const hasKeys = (user: Resource<User>, host: Host): boolean => !user.value.system || host.has(`directory/${homeOf(user)}`);

/** The keys of a file or of a line in the YAML, one to a line. */
function keysIn(entry: string, folder: Parameters<typeof inStackFolder>[0]): string[] {
  if (publicKey.test(entry)) return [entry];
  return readFileSync(inStackFolder(folder, entry), "utf8")
    .split("\n")
    .map((l) => l.trim())
    .filter((l) => l && !l.startsWith("#"));
}

/** What is the image's already: a package's user has its number there, and its files. */
export function ofImageProblems(what: "user" | "group", name: string, number: number, there: boolean, { image }: Host): Problem[] {
  if (there)
    return [
      {
        code: "ING1508",
        message: `the image ${image.name} has a ${what} ${name} already`,
        hint: "take it out here: others may refer to it all the same",
      },
    ];
  const owner = image.numbers.get(number);
  return owner === undefined
    ? []
    : [
        {
          code: "ING1508",
          message: `${number}, the number of the ${what} ${name}, is ${owner}'s in the image ${image.name}`,
          hint: `give it another \`${what === "user" ? "uid" : "gid"}:\``,
        },
      ];
}

export const user = kind({
  kind: "user",
  key: "users",
  shape: "many",
  summary:
    "A person who logs in by ssh key, or (`system: true`) the account of a daemon. Passwords are not set: who needs root gets `sudo: passwordless`.",
  names: accountName,
  schema,
  examples: [
    "users:\n  ops:\n    groups: [sudo]\n    sudo: passwordless\n    ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops@example.org]\n",
    'users:\n  clerk: { groups: [sudo], sudo: password, password_hash: { secret: clerk-password-hash }, expires: "2027-12-31" }\n',
    "users:\n  deployer:\n    sudo_commands: [/usr/bin/systemctl restart shop.service]\n    ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops@example.org]\n",
    "users:\n  worker: { system: true, home: /var/lib/worker, ssh_key: generate }\ndirectories:\n  /var/lib/worker: { owner: worker }\n",
  ],
  offers: ({ name }) => [`group/${name}`],
  outputs: (user) => ({
    home: { parts: [homeOf(user)], description: "The home directory" },
    name: { parts: [user.name], description: "The user's name" },
  }),
  needs: ({ value }) => [
    ...(value.sudo === "none" && !value.sudo_commands.length ? [] : [pkg("sudo")]),
    ...(value.shell === undefined ? [] : [{ need: "binary" as const, path: value.shell.replace(/^\/bin\//, "/usr/bin/") }]),
  ],
  after: (user, host) =>
    host
      .all(volume)
      .filter((v) => isBelow(homeOf(user), v.value.mount))
      .map((v) => v.id),
  problems: (user, host) => {
    const { value } = user;
    const problems: Problem[] = value.ssh_keys.flatMap((entry, i): Problem[] => {
      const path = ["ssh_keys", i];
      if (publicKey.test(entry)) return [];
      if (!isThere(host, entry, "file"))
        return [{ code: "ING1401", path, message: `there is no file \`${entry}\` beside the stack, and it is no public key` }];
      const wrong = keysIn(entry, host).find((k) => !publicKey.test(k));
      if (!wrong) return [];
      const secret = /PRIVATE KEY/.test(wrong);
      return [
        {
          code: "ING1402",
          path,
          message: secret ? `${entry} is a private key` : `${entry} holds a line that is no public key`,
          hint: secret ? "name the .pub file" : undefined,
        },
      ];
    });
    for (const [i, command] of value.sudo_commands.entries()) {
      const path = ["sudo_commands", i];
      problems.push(...commandProblems(command, path));
      try {
        sudoersCommand(splitCommand(command));
      } catch (error) {
        if (error instanceof QuoteError && !commandProblems(command, path).length)
          problems.push({ code: "ING1408", path, message: error.message });
      }
    }
    if (value.sudo !== "none" && value.sudo_commands.length)
      problems.push({
        code: "ING1425",
        path: ["sudo_commands"],
        message: `${user.name} may run everything already (\`sudo: ${value.sudo}\`)`,
        hint: "leave one of the two out",
      });
    if (((value.groups.includes("sudo") && value.sudo === "none") || value.sudo === "password") && !value.password_hash) {
      problems.push({
        code: "ING1403",
        severity: "warning",
        path: value.sudo === "password" ? ["sudo"] : ["groups"],
        message:
          value.sudo === "password"
            ? `${user.name} has no password, so sudo will always refuse`
            : `${user.name} is in the group sudo but has no password, so sudo will always refuse`,
        hint: "add `sudo: passwordless`, a `password_hash:`, or leave it out",
      });
    }
    const keys = value.ssh_key ? "ssh_key" : value.ssh_keys.length ? "ssh_keys" : undefined;
    if (keys && value.system && !host.has(`directory/${homeOf(user)}`))
      problems.push({
        code: "ING1416",
        path: [keys],
        message: `a key of ${user.name} needs a home directory, and ${homeOf(user)} is not declared`,
        hint:
          value.home === undefined
            ? `give it a \`home:\`, and \`directories:\` the same with \`owner: ${user.name}\``
            : `add \`${homeOf(user)}: { owner: ${user.name} }\` below \`directories:\``,
      });
    problems.push(...ofImageProblems("user", user.name, uidOf(user), host.image.users.has(user.name), host));
    for (const other of host.all(userKind)) {
      if (other.name > user.name && uidOf(other) === uidOf(user)) {
        problems.push({
          code: "ING1501",
          message: `users ${user.name} and ${other.name} both have the uid ${uidOf(user)}`,
          hint: "give one of them another `uid:`",
          related: { id: other.id, message: `${other.name} is declared here` },
        });
      }
    }
    return problems;
  },
  compile: (user, host) => {
    const { name, value } = user;
    const uid = uidOf(user);
    const steps: StepDraft[] = [
      {
        action: "user",
        args: {
          name,
          uid,
          gid: uid,
          system: value.system,
          home: homeOf(user),
          shell: shellOf(user),
          groups: value.groups,
          sudo: value.sudo,
          ...(value.sudo_commands.length && { sudo_commands: value.sudo_commands.map((c) => sudoersCommand(splitCommand(c))) }),
          ...(value.password_hash && { password_hash: { secret: value.password_hash.secret } }),
          ...(value.expires !== undefined && { expires: value.expires }),
        },
      },
    ];
    const late = [homeOf(user), `${homeOf(user)}/.ssh`].map((d) => `directory/${d}`);
    if (hasKeys(user, host))
      steps.push({
        part: "ssh-keys",
        action: "authorized-keys",
        args: { user: name, keys: value.ssh_keys.flatMap((k) => keysIn(k, host)) },
        late,
      });
    const given = value.password_hash ? [{ name: value.password_hash.secret, generate: value.password_hash.generate }] : [];
    if (!value.ssh_key) return { steps, secrets: given };
    const key = `${host.name}/user/${name}/ssh-key`;
    steps.push({
      part: "ssh-key",
      action: "ssh-key",
      args: { user: name, key: { secret: key } },
      late,
    });
    return { steps, secrets: [...given, { name: key, generate: "ssh-ed25519" }] };
  },
  checks: (user, host) => {
    const { name, value } = user;
    const checks: CheckDraft[] = [
      ...(value.expires === undefined ? [] : [inside("expires", { name, day: value.expires }, "expires")]),
      inside("user", { name, uid: uidOf(user), groups: value.groups, home: homeOf(user), shell: shellOf(user), login: !value.system }),
    ];
    if (hasKeys(user, host))
      checks.push(inside("authorized_keys", { user: name, keys: value.ssh_keys.flatMap((k) => keysIn(k, host)) }, "ssh-keys"));
    for (const [i, command] of value.sudo_commands.entries())
      checks.push(inside("sudo_command", { user: name, argv: splitCommand(command) }, `sudo-${i + 1}`));
    if (value.sudo_commands.length) checks.push(inside("sudo", { user: name, passwordless: false }, "sudo-else"));
    if (value.sudo === "passwordless") checks.push(inside("sudo", { user: name, passwordless: true }, "sudo"));
    if (value.ssh_key)
      checks.push(inside("path", { path: `${homeOf(user)}/.ssh/id_ed25519`, type: "file", owner: name, mode: "0600" }, "ssh-key"));
    return checks;
  },
});
const userKind = user;
