// What the hosts of the stacks kept-* hold, a table of the database `shop` and a file of www-data's, and that a rebuild has brought it back.
import * as assert from "uvu/assert";
import type { Rebuild } from "../../stacks/recovery/rebuild.ts";

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
