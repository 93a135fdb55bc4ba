// What the scenarios of Patchwork's stacks share: a stack with the machine of its mail beside it, a browser, an author with two patches.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { type TestProject, testProject, until } from "./project.ts";
import { withServers } from "./servers.ts";

const password = "it's; a $word";

export interface Patchwork {
  project: TestProject;
  stack: string;
  /** Output of a script on a machine, errors too. */
  on(host: string, script: string): Promise<string>;
  until(host: string, script: string, like: RegExp): Promise<string>;
  ingot(...args: string[]): Promise<string>;
  verified(): Promise<void>;
  up(): Promise<Browser>;
  /** A browser at the machine that runs now. */
  browse(): Promise<Browser>;
}

/** A project with the stack, `servers` at 10.1.1.3, and an environment in which its mail goes there. @param edit of the stack's text */
export async function patchwork(stack: string, edit: (text: string) => string = (text) => text): Promise<Patchwork> {
  const project = await testProject(["patchwork"]);
  const file = (name: string) => join(project.folder, name);
  const text = edit(readFileSync(file(`stacks/${stack}.yaml`), "utf8"))
    .replace("idle: true", "idle: true\n        authority: /etc/ssl/test-ca.pem")
    .replace("listen: world", "listen: world\n      authority: /etc/ssl/test-ca.pem")
    .replace("    files:\n", "    files:\n      /etc/ssl/test-ca.pem: { source: test-ca.pem }\n");
  writeFileSync(file(`stacks/${stack}.yaml`), text);
  writeFileSync(
    file(`stacks/${stack}.test.yaml`),
    "vars: { relay: servers.example.org, imap: servers.example.org, notification_minutes: 1 }\n",
  );
  await withServers(project, stack, { address: "10.1.1.3", users: ["patchwork"], password });
  for (const name of ["imap", "relay"]) writeFileSync(file(`.ingot/secrets/${stack}/${name}`), password, { mode: 0o600 });
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "author", "-f", file("stacks/keys/author")]);
  writeFileSync(file("stacks/keys/ops.pub"), readFileSync(file("stacks/keys/author.pub")));
  const run = (...args: string[]) => project.ingot([...args, "--env", "test"]);
  const ingot: Patchwork["ingot"] = async (...args) => {
    const { code, stdout, stderr } = await run(...args);
    assert.is(code, 0, stderr + stdout);
    return stdout;
  };
  const on: Patchwork["on"] = async (host, script) => {
    const { stdout, stderr } = await project.on(`${stack}/${host}`, script);
    return stdout + stderr;
  };
  const browse = async () => {
    const machines = JSON.parse(await ingot("status", stack, "--json")) as { forwards: Record<string, string> }[];
    const at = machines.map((m) => m.forwards[443]).find((forward) => forward !== undefined);
    return browser(Number(at?.split(":")[1]));
  };
  return {
    project,
    stack,
    on,
    ingot,
    until: (host, script, like) => until((s) => on(host, s), script, like),
    async verified() {
      const verify = await run("verify", stack, "--within", "300");
      assert.is(verify.code, 0, verify.stderr + verify.stdout);
    },
    async up() {
      await ingot("up", stack);
      return browse();
    },
    browse,
  };
}

export interface Answer {
  status: number;
  body: string;
  location: string;
}
export interface Browser {
  get(path: string, host?: string): Promise<Answer>;
  /** Fills in the form that is at a path, and sends it. */
  post(path: string, fields: Record<string, string>): Promise<Answer>;
}

/** With cookies; what it is redirected to it does not follow. */
export function browser(port: number): Browser {
  const cookies = new Map<string, string>();
  const own = `patchwork.localhost:${port}`;
  const ask = (method: string, path: string, body = "", host = own): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const headers = {
        Host: host,
        Cookie: [...cookies].map(([k, v]) => `${k}=${v}`).join("; "),
        ...(method === "POST" && { "Content-Type": "application/x-www-form-urlencoded", Origin: `https://${own}` }),
      };
      const servername = host.replace(/:\d+$/, "");
      const asked = request(
        { agent: false, host: "127.0.0.1", port, path, method, headers, servername, rejectUnauthorized: false },
        (answer) => {
          let text = "";
          for (const cookie of answer.headers["set-cookie"] ?? []) {
            const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie) ?? [];
            if (name !== undefined && value !== undefined) cookies.set(name, value);
          }
          answer.setEncoding("utf8");
          answer.on("data", (chunk: string) => (text += chunk));
          answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body: text, location: answer.headers.location ?? "" }));
        },
      );
      asked.on("error", reject);
      asked.end(body);
    });
  return {
    get: (path, host) => ask("GET", path, "", host),
    async post(path, fields) {
      const form = await ask("GET", path);
      const token = /name="csrfmiddlewaretoken" value="([^"]+)"/.exec(form.body)?.[1] ?? "";
      return ask("POST", path, new URLSearchParams({ ...fields, csrfmiddlewaretoken: token }).toString());
    },
  };
}

/** An author on `servers`, who has cloned the empty repository, pushed a first commit, and made a commit on main and one on next beside it. */
export async function author({ project, stack, on }: Patchwork, host = "application", address = "10.1.1.2"): Promise<void> {
  const key = readFileSync(join(project.folder, "stacks/keys/author"), "utf8");
  await project.on(`${stack}/servers`, "mkdir -p -m 700 /root/.ssh && (umask 077; cat >/root/.ssh/id_ed25519)", key);
  const made = await on(
    "servers",
    `set -e
    printf 'Host *\\n  StrictHostKeyChecking accept-new\\n' >/root/.ssh/config
    git config --global user.name 'Jürgen Müller'; git config --global user.email ops@example.org; git config --global init.defaultBranch main
    cd /root && git clone -q git@${address}:linux.git && cd linux
    printf 'eins\\nzwei\\ndrei\\n' >count && git add . && git commit -qm 'Count' && git push -q origin HEAD:main
    git checkout -qb next && printf 'Größe\\n' >size && git add . && git commit -qm 'Zeige die Größe'
    git checkout -q main && printf 'eins\\nzwö\\ndrei\\n' >count && git add . && git commit -qm 'Füge ein ö hinzu'
    echo made`,
  );
  assert.match(made, /^made$/m);
  assert.match(await on(host, "git --git-dir=/srv/git/linux.git log --format=%s main"), /^Count\n/);
}

const formatted = (branch: string) =>
  `cd /root/linux && git format-patch -1 --stdout --add-header='List-Id: Linux <linux.lists.example.org>' --to linux@lists.example.org --thread ${branch} | sed 1d`;

/** Sends the patch of a branch to the alias. */
export const byMail = (branch: string, at = "10.1.1.2"): string => `${formatted(branch)} >/tmp/mail && python3 -c '
import smtplib
with smtplib.SMTP("${at}") as s:
    s.sendmail("ops@servers.example.org", ["patchwork@patchwork.example.org"], open("/tmp/mail", "rb").read())'`;

/** Puts the patch of a branch into the mailbox. */
export const intoMailbox = (branch: string): string => `${formatted(branch)} | doveadm save -u patchwork`;

/** Until a page is like this. */
export function untilPage(web: Browser, path: string, like: RegExp): Promise<string> {
  return until(async () => (await web.get(path)).body, path, like);
}
