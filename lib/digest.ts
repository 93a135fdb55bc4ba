// What a thing is known by: sha256 over a canonical form. Images, generations, releases and artifacts all use this.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** JSON with the keys of every object sorted, no white space: equal values give equal bytes. `undefined` members are left out. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, v: unknown) =>
    v && typeof v === "object" && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
      : v,
  );
}

/** sha256 in lower-case hex (64 characters). */
export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** sha256 of a value's canonical JSON. */
export function digestOf(value: unknown): string {
  return sha256(canonicalJson(value));
}

/** sha256 of a file's bytes, read as a stream. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}

/** The first 12 characters: enough for people and for names on disk. */
export const short = (digest: string): string => digest.slice(0, 12);
