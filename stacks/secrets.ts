// Where secrets are kept, outside every host: one interface, a store for each kind of place. A rebuilt host gets the same values.
import { generateKeyPairSync, randomBytes, randomInt } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GenerateSecret, HostPlan } from "../cloud-init/plan.ts";
import { RefusedError } from "../lib/diagnostics.ts";
import { run } from "../lib/run.ts";

export interface SecretStore {
  /** The value, or undefined when there is none. Names are those of SecretUse; they may hold `/`. */
  get(stack: string, name: string): Promise<string | undefined>;
  /** Keeps a new value; one that is there already stays, and is given back. */
  create(stack: string, name: string, value: string): Promise<string>;
  /** For messages: where a person puts the value. */
  placeOf(stack: string, name: string): string;
}

/** Every secret of a host by name; those that can be generated and are not there yet are made.
 * @throws RefusedError naming the secrets that somebody must give */
export async function secretsOf(store: SecretStore, plan: Pick<HostPlan, "stack" | "secrets">): Promise<Record<string, string>> {
  const values: Record<string, string> = {};
  const lacking: string[] = [];
  const create = async (name: string, how: GenerateSecret): Promise<string> => {
    const there = await store.get(plan.stack, name);
    if (there !== undefined) return there;
    const made =
      how === "ssh-public" ? await publicSshKey(await create(name.replace(/\.pub$/, ""), "ssh-ed25519")) : await generated(how, name);
    return store.create(plan.stack, name, made);
  };
  for (const { name, generate } of plan.secrets) {
    const value = generate ? await create(name, generate) : await store.get(plan.stack, name);
    if (value === undefined) lacking.push(name);
    else values[name] = value;
  }
  if (lacking.length) {
    throw new RefusedError(
      `${plan.stack} has no value for the secret${lacking.length > 1 ? "s" : ""} ${lacking.join(", ")}`,
      `write it to ${store.placeOf(plan.stack, lacking[0] ?? "")}, or let it be made by \`generate:\``,
    );
  }
  return values;
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

async function generated(how: Exclude<GenerateSecret, "ssh-public">, name: string): Promise<string> {
  switch (how) {
    case "password":
      return Array.from({ length: 32 }, () => letters[randomInt(letters.length)]).join("");
    case "hex64":
      return randomBytes(32).toString("hex");
    case "tls-ecdsa":
      return generateKeyPairSync("ec", {
        namedCurve: "prime256v1",
        privateKeyEncoding: { type: "pkcs8", format: "pem" },
        publicKeyEncoding: { type: "spki", format: "pem" },
      }).privateKey;
    case "ssh-ed25519":
      return sshKey(name);
  }
}

/** ssh-keygen writes the key to a folder that only we can enter. */
async function sshKey(comment: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "ingot-key-"));
  try {
    await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", join(folder, "key")]);
    return readFileSync(join(folder, "key"), "utf8");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The public half ("ssh-ed25519 AAAA…") of an OpenSSH private key. */
export async function publicSshKey(key: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "ingot-key-"));
  try {
    writeFileSync(join(folder, "key"), key, { mode: 0o600 });
    const { stdout } = await run(["ssh-keygen", "-y", "-f", join(folder, "key")]);
    return stdout.trim().split(" ").slice(0, 2).join(" ");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
