// What is around INLOOP's stack in its test: the stack's own file with another host beside it, keys that the test knows, the
// application's sources in a git repository, and a browser.
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request as plainRequest } from "node:http";
import { request } from "node:https";
import { join } from "node:path";
import { toolFolder } from "../../lib/paths.ts";
import type { TestProject } from "./project.ts";
import { withServers } from "./servers.ts";

const smtpPassword = `relay's "own" $1 %n \\ pass`;

/** An ed25519 key pair; its public half, as ssh writes it. */
function keyPair(file: string): string {
  mkdirSync(join(file, ".."), { recursive: true, mode: 0o700 });
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file]);
  return readFileSync(`${file}.pub`, "utf8").trim();
}

/** The same commit whenever the files are the same: its release is built once for all runs of the test. */
export function commit(repository: string, work: string, message: string): string {
  const who = { NAME: "Ops", EMAIL: "ops@example.org", DATE: "2026-01-01T00:00:00Z" };
  const env = {
    ...process.env,
    ...Object.fromEntries(Object.entries(who).flatMap(([k, v]) => [`GIT_AUTHOR_${k}`, `GIT_COMMITTER_${k}`].map((name) => [name, v]))),
  };
  const git = (...words: string[]) => execFileSync("git", ["-C", work, ...words], { env, encoding: "utf8" }).trim();
  git("add", "--all");
  git("commit", "--quiet", "--message", message);
  git("push", "--quiet", repository, "HEAD:master");
  return execFileSync("git", ["-C", repository, "rev-parse", "master"], { encoding: "utf8" }).trim();
}

export interface Surroundings {
  /** The private key that may log in as `inloop`. */
  operatorKey: string;
  repository: string;
  /** A work tree of the repository. */
  work: string;
  edit(from: string | RegExp, to: string): void;
}

/** Makes stacks/inloop.yaml of a test's project talk to a host beside it, and come from a git repository. */
export async function surround(project: TestProject): Promise<Surroundings> {
  const { folder } = project;
  const at = (path: string) => join(folder, path);
  const edit = (from: string | RegExp, to: string) => project.edit("stacks/inloop.yaml", from, to);
  const repository = at("inloop.git");
  const work = at("work");
  execFileSync("git", ["init", "--quiet", "--bare", "--initial-branch=master", repository]);
  cpSync(join(toolFolder, "tests/apps/inloop"), work, { recursive: true, filter: (path) => !path.includes("__pycache__") });
  execFileSync("git", ["init", "--quiet", "--initial-branch=master", work]);
  const pinned = commit(repository, work, "as it is");

  const operatorKey = at("operator");
  keyPair(operatorKey);
  copyFileSync(`${operatorKey}.pub`, at("stacks/keys/ops.pub"));
  writeFileSync(at("stacks/keys/huey.pub"), `${keyPair(at(".ingot/secrets/inloop/web/user/huey/ssh-key"))}\n`);
  const serverKey = keyPair(at(".ingot/secrets/inloop/servers/ssh-host-key"));
  for (const file of ["web/user/huey/ssh-key", "servers/ssh-host-key"]) execFileSync("rm", [at(`.ingot/secrets/inloop/${file}.pub`)]);
  writeFileSync(at(".ingot/secrets/inloop/smtp"), smtpPassword, { mode: 0o600 });

  edit("stack: inloop\n", "stack: inloop\nnetwork: 10.1.4.0/24\n");
  edit("    hostname: inloop\n", "    hostname: inloop\n    address: 10.1.4.2\n");
  edit("smtp.example.org:587", "servers.example.org");
  edit("      relay: {", "      authority: /etc/ssl/test-ca.pem\n      relay: {");
  edit(/github\.com: \{ keys: \[.*\] \}/, `servers.example.org: { keys: [${serverKey.split(" ").slice(0, 2).join(" ")}] }`);
  edit("source: ../tests/apps/inloop", `source: { git: ../inloop.git, ref: master, commit: ${pinned} }`);
  edit("    postgresql: { settings", "    files:\n      /etc/ssl/test-ca.pem: { source: test-ca.pem }\n\n    postgresql: { settings");
  await withServers(project, "inloop", { address: "10.1.4.3", users: ["inloop"], password: smtpPassword });
  // It is the git server, too, which lets in huey's deployment key.
  edit(
    "      vmail: { system: true }\n",
    "      vmail: { system: true }\n      git: { home: /srv/git, shell: /usr/bin/git-shell, ssh_keys: [keys/huey.pub] }\n    repositories:\n      tasks: { owner: git }\n",
  );
  return { operatorKey, repository, work, edit };
}

export interface Answer {
  /** 0: closed without an answer. */
  status: number;
  headers: IncomingMessage["headers"];
  rawHeaders: string[];
  body: Buffer;
}
export interface Question {
  method?: string;
  headers?: Record<string, string>;
  name?: string;
  form?: string;
  body?: string;
  plain?: true;
}

/** Asks a host over this computer's loopback, as a browser here would. */
export function ask(forwards: Record<string, string>, path: string, question: Question = {}): Promise<Answer> {
  const { method = "GET", headers = {}, name = "inloop.localhost", form, body = form, plain } = question;
  const [host, port] = (forwards[plain ? 80 : 443] ?? ":").split(":");
  const options = {
    host,
    port,
    path,
    method,
    headers: {
      host: plain ? name : `${name}:${port}`,
      ...(form !== undefined && { "content-type": "application/x-www-form-urlencoded" }),
      ...headers,
    },
    ...(!plain && { servername: "inloop.localhost", rejectUnauthorized: false }),
    agent: false,
  };
  return new Promise((resolve, reject) => {
    const outgoing = (plain ? plainRequest : request)(options, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (c: Buffer) => chunks.push(c));
      answer.on("end", () =>
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, rawHeaders: answer.rawHeaders, body: Buffer.concat(chunks) }),
      );
    });
    outgoing.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" || error.message.includes("socket hang up")
        ? resolve({ status: 0, headers: {}, rawHeaders: [], body: Buffer.alloc(0) })
        : reject(error),
    );
    outgoing.end(body);
  });
}

/** Keeps cookies and sends forms as a browser does. */
export class Browser {
  private readonly cookies = new Map<string, string>();
  constructor(private readonly forwards: Record<string, string>) {}

  cookie(): string {
    return [...this.cookies].map(([k, v]) => `${k}=${v}`).join("; ");
  }

  async open(path: string, question: Question = {}): Promise<Answer> {
    const answer = await ask(this.forwards, path, { ...question, headers: { cookie: this.cookie(), ...question.headers } });
    for (const set of answer.headers["set-cookie"] ?? []) {
      const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(set) ?? [];
      this.cookies.set(name, value);
    }
    return answer;
  }

  /** Fills in the form of a page: fields, and a file where one is given. */
  async send(path: string, fields: Record<string, string>, file?: string): Promise<Answer> {
    const page = (await this.open(path)).body.toString();
    const token = /name="csrfmiddlewaretoken" value="([^"]+)"/.exec(page)?.[1];
    if (token === undefined) throw new Error(`there is no form at ${path}`);
    const boundary = "----of-the-browser";
    const parts = Object.entries({ csrfmiddlewaretoken: token, ...fields }).map(
      ([name, value]) => `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
    );
    if (file !== undefined)
      parts.push(`--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="solution.sh"\r\n\r\n${file}\r\n`);
    const origin = `https://inloop.localhost:${this.forwards[443]?.split(":")[1]}`;
    return this.open(path, {
      method: "POST",
      body: `${parts.join("")}--${boundary}--\r\n`,
      headers: { "content-type": `multipart/form-data; boundary=${boundary}`, origin, referer: `${origin}${path}` },
    });
  }
}
