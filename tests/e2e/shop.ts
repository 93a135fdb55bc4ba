// What the hosts of the stacks kept-* hold, a table of the database `shop` and a file of www-data's, and that a rebuild has brought it back.
import * as assert from "uvu/assert";
import type { Rebuild } from "../../stacks/recovery/rebuild.ts";
import { until } from "./project.ts";

/** A host of theirs: by psql in the database, and by a shell. Both give what is printed. */
export interface Shop {
  sql(text: string): Promise<string>;
  on(script: string): Promise<string>;
}

/** A thousand orders and a picture. */
export async function fillShop({ sql, on }: Shop): Promise<void> {
  await sql(
    "create table orders (id int primary key); alter table orders owner to shop; insert into orders select generate_series(1,1000);",
  );
  await on("echo picture >/srv/data/media/one && chown www-data: /srv/data/media/one && chmod 0640 /srv/data/media/one");
}

/** Waits until all that is committed is in the archived log: by PostgreSQL's own times, which nobody asks for more. */
export async function archived(sql: Shop["sql"]): Promise<void> {
  const piece = await sql("select pg_walfile_name(pg_current_wal_lsn())");
  const last = async (text: string) => {
    const name = await sql(text);
    return `${name} is ${name >= piece ? "there" : `before ${piece}`}`;
  };
  await until(last, "select last_archived_wal from pg_stat_archiver", / is there$/);
}

/** Waits until at most one piece of the log is written and not archived, as it is where PostgreSQL and its archiver have a processor. */
export async function keepsUp(sql: Shop["sql"]): Promise<void> {
  const number = (piece = "") => Number(`0x${piece.slice(8, 16)}`) * 256 + Number(`0x${piece.slice(16, 24)}`);
  const behind = async (text: string) => {
    const [last, now] = (await sql(text)).split("|");
    return `${number(now) - number(last)} behind: ${last}, ${now}`;
  };
  await until(behind, "select last_archived_wal, pg_walfile_name(pg_current_wal_lsn()) from pg_stat_archiver", /^[01] behind/);
}

/** Restored from a backup of the thousand orders, with the five hundred that its log has after them. @param printed by `rebuild --json` */
export async function shopIsBack({ sql, on }: Shop, printed: string): Promise<Rebuild> {
  const result = JSON.parse(printed) as Rebuild & { restored: { rows?: { same: Record<string, { rows: number }> } } };
  assert.is(result.restored.rows?.same["shop:orders"]?.rows, 1000);
  assert.is(await sql("select count(*) from orders"), "1500");
  assert.is(
    await on("cat /srv/data/media/one; stat -c %U:%G:%a /srv/data/media/one /srv/data/media"),
    "picture\nwww-data:www-data:640\nwww-data:www-data:750",
  );
  assert.is(await sql("select pg_is_in_recovery(), timeline_id from pg_control_checkpoint()"), "f|2");
  return result;
}
