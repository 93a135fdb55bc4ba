// One run at a time changes a stack, or makes an AMI, on whatever computer: an object in the bucket says who, and is renewed while that run
// lives.
// Source of the conditional writes: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes".
import { randomUUID } from "node:crypto";
import { hostname, userInfo } from "node:os";
import { sleep } from "../../lib/cancel.ts";
import { RefusedError } from "../../lib/diagnostics.ts";
import type { Aws } from "./api.ts";
import { readObject, removeObject, type Stored, writeObject } from "./object.ts";
import { names } from "./shape.ts";

export interface AccountLock {
  release(): Promise<void>;
}

/** What the object says. */
export interface Holder {
  id: string;
  who: string;
  what: string;
  since: string;
  /** ISO 8601: when somebody else may take it, unless it has been renewed. */
  until: string;
}

const leaseSeconds = 60;
const renewSeconds = 20;
const lookSeconds = 2;

/** Who works here, for the others: "ops@laptop". */
export const whoAmI = (): string => `${userInfo().username}@${hostname()}`;

export const lockStack = (aws: Aws, bucket: string, stack: string, what: string, say: (text: string) => void): Promise<AccountLock> =>
  lockKey(aws, bucket, { key: names.lock(stack), of: stack, look: `ingot status ${stack} --on aws` }, what, say);

/** The one who makes an AMI of this digest in the region. */
export const lockAmi = (aws: Aws, bucket: string, image: { name: string; digest: string }, what: string, say: (text: string) => void) =>
  lockKey(aws, bucket, { key: names.amiLock(image.digest), of: `the AMI of ${image.name}`, look: "ingot image list --on aws" }, what, say);

/**
 * Waits until nobody else has the lock, and says for whom.
 * @param lock its object's key, what it is of ("shop"), and the command that shows whether all is well
 * @param what "up", "down"
 * @throws Cancelled when the user stops waiting
 */
async function lockKey(
  aws: Aws,
  bucket: string,
  { key, of, look }: { key: string; of: string; look: string },
  what: string,
  say: (text: string) => void,
): Promise<AccountLock> {
  const id = randomUUID();
  const since = new Date().toISOString();
  const content = () =>
    JSON.stringify({ id, who: whoAmI(), what, since, until: new Date(Date.now() + leaseSeconds * 1000).toISOString() } satisfies Holder);
  let etag: string | undefined;
  let said = 0;
  for (;;) {
    etag = await writeObject(aws, bucket, key, content(), "nothing");
    if (etag !== undefined) break;
    const there = await readObject(aws, bucket, key);
    if (!there) continue; // it was let go between the two calls
    const holder = JSON.parse(there.text) as Holder;
    if (holder.id === id) {
      // It was written; only the answer had been lost, and the call was made again.
      etag = there.etag;
      break;
    }
    if (Date.parse(holder.until) < Date.now()) {
      etag = await writeObject(aws, bucket, key, content(), { etag: there.etag });
      if (etag === undefined) continue;
      say(`  the run of ${holder.who} (${holder.what} ${of}, begun ${holder.since}) ended without a word: going on`);
      break;
    }
    if (Date.now() - said > 30_000) say(`  waiting: ${holder.who} is at ${of} (${holder.what}, since ${holder.since})`);
    if (Date.now() - said > 30_000) said = Date.now();
    await sleep(lookSeconds);
  }
  let lost: string | undefined;
  let renewing: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    renewing = renew().catch((error: unknown) => {
      lost = error instanceof Error ? error.message : String(error);
    });
  }, renewSeconds * 1000);
  timer.unref();
  const renew = async () => {
    const next = etag === undefined ? undefined : await writeObject(aws, bucket, key, content(), { etag });
    const there = next === undefined ? await readObject(aws, bucket, key) : undefined;
    if (next !== undefined) etag = next;
    else if (there && (JSON.parse(there.text) as Holder).id === id) etag = there.etag;
    else lost = "somebody else took it, because it had not been renewed in time";
  };
  return {
    async release() {
      clearInterval(timer);
      await renewing;
      const there: Stored | undefined = await readObject(aws, bucket, key);
      if (there && (JSON.parse(there.text) as Holder).id === id) await removeObject(aws, bucket, key);
      else lost ??= "somebody else took it";
      if (lost !== undefined)
        throw new RefusedError(`the lock of ${of} was lost while ${what} ran: ${lost}`, `look whether all is well: ${look}`);
    },
  };
}
