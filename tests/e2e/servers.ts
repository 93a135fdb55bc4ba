// The machine that the tests' hosts talk to (servers.yaml), put beside the hosts of a stack.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import type { TestProject } from "./project.ts";

/** A certificate of an authority of the test's own, for the server that the machines talk to. */
function certify(folder: string): void {
  const openssl = (...words: string[]) => execFileSync("openssl", words, { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "test-ca.pem", "-days", "30", "-subj", "/CN=Test");
  openssl("req", ...key, "-keyout", "servers.key", "-out", "servers.csr", "-subj", "/CN=servers.example.org");
  writeFileSync(join(folder, "names"), "subjectAltName=DNS:servers.example.org\n");
  openssl(
    "x509",
    "-req",
    "-in",
    "servers.csr",
    "-CA",
    "test-ca.pem",
    "-CAkey",
    "ca.key",
    "-CAcreateserial",
    "-days",
    "90",
    "-extfile",
    "names",
    "-out",
    "servers.pem",
  );
}

/** Appends the machine `servers` to the hosts of a stack: `users` have mailboxes on it, and may send by it, with this password. What vouches for it
 * is `stacks/test-ca.pem`. */
export async function withServers(
  project: TestProject,
  stack: string,
  { address, users, password }: { address: string; users: string[]; password: string },
): Promise<void> {
  const file = (name: string) => join(project.folder, name);
  cpSync(join(toolFolder, "tests/e2e/images"), file("images"), { recursive: true });
  certify(file("stacks"));
  mkdirSync(file(`.ingot/secrets/${stack}`), { recursive: true, mode: 0o700 });
  cpSync(file("stacks/servers.key"), file(`.ingot/secrets/${stack}/servers-key`));
  const passwords = JSON.stringify(users.map((user) => `${user}:${password}\n`).join(""));
  const host = readFileSync(join(toolFolder, "tests/e2e/servers.yaml"), "utf8")
    .replace("ADDRESS", address)
    .replace("content: PASSWORDS", () => `content: ${passwords}`);
  writeFileSync(file(`stacks/${stack}.yaml`), `${readFileSync(file(`stacks/${stack}.yaml`), "utf8")}\n${host}`);
  const bake = await project.ingot(["bake", "servers"]);
  assert.is(bake.code, 0, bake.stderr);
}
