// Secrets that are made: the public half of a key belongs to the key, whichever of the two is asked for first.
import { rmSync } from "node:fs";
import * as assert from "uvu/assert";
import { localSecrets } from "../../stacks/local/secrets.ts";
import { publicSshKey, secretsOf } from "../../stacks/secrets.ts";
import { suite } from "../suite.ts";
import { temporaryProject } from "./fixtures.ts";

const test = suite("secrets");

test("the public half of a key is made with the key, and is the same on every host", async () => {
  const project = temporaryProject();
  try {
    const store = localSecrets(project);
    const half = { name: "db/backup-key.pub", generate: "ssh-public" as const, resource: "backup-store" };
    const first = await secretsOf(store, { stack: "shop", secrets: [half] });
    assert.match(first["db/backup-key.pub"] ?? "", /^ssh-ed25519 [A-Za-z0-9+/=]+$/);
    const whole = { name: "db/backup-key", generate: "ssh-ed25519" as const, resource: "backup" };
    const both = await secretsOf(store, { stack: "shop", secrets: [whole, half] });
    assert.equal(both["db/backup-key.pub"], first["db/backup-key.pub"]);
    assert.is(await publicSshKey(both["db/backup-key"] ?? ""), first["db/backup-key.pub"]);
  } finally {
    rmSync(project.folder, { recursive: true });
  }
});

test.run();
