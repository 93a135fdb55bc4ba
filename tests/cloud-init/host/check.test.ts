// check.py without a host: what it says of wrong questions, and what it sees over sockets. No root, no machine.
import { execFileSync, spawn } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, createServer as createSocketServer, type Server } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import type { Json } from "../../../lib/digest.ts";
import { suite } from "../../suite.ts";
import { hostFolder } from "./machine.ts";

interface Result {
  id: string;
  ok: boolean;
  message: string;
  seen?: Json;
}
const test = suite("check");
const folder = mkdtempSync(join(tmpdir(), "ingot-check-"));
const servers: Server[] = [];
const address: Record<string, string> = {};
let pin = "";

function ask(entries: { check: string; args: Record<string, Json> }[]): Promise<Result[]> {
  const child = spawn("/usr/bin/python3", [join(hostFolder, "check.py")], { stdio: ["pipe", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stdin.end(JSON.stringify(entries.map((entry, i) => ({ id: `c${i}`, ...entry }))));
  return new Promise((resolve) => child.on("close", () => resolve(JSON.parse(output) as Result[])));
}
const one = async (check: string, args: Record<string, Json>): Promise<Result> => {
  const [result] = await ask([{ check, args }]);
  if (!result) throw new Error("no result");
  return result;
};
const listen = (name: string, server: Server): Promise<void> =>
  new Promise((resolve) => {
    servers.push(server);
    server.listen(0, "127.0.0.1", () => {
      address[name] = `127.0.0.1:${(server.address() as AddressInfo).port}`;
      resolve();
    });
  });

let busyUntil = 0;
const answer: RequestListener = (request, response) => {
  const path = request.url ?? "";
  if (path === "/moved") return response.writeHead(301, { Location: `https://${request.headers.host}/there` }).end();
  if (path === "/twice")
    return response
      .writeHead(
        200,
        [
          ["X-Once", "a"],
          ["X-Once", "b"],
        ].flat(),
      )
      .end("x");
  if (path === "/later") return response.writeHead(Date.now() < busyUntil ? 503 : 200).end();
  let body = "";
  request.on("data", (chunk: Buffer) => (body += chunk.toString()));
  request.on("end", () =>
    response
      .writeHead(200, { "X-One": "1" })
      .end(`${request.method} ${request.headers.host} ${request.headers["content-type"] ?? "-"} ${body}`),
  );
};

test.before(async () => {
  execFileSync(
    "openssl",
    [
      ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN=a.example".split(" "),
      ...["-addext", "subjectAltName=DNS:a.example,DNS:*.b.example,IP:127.0.0.1,IP:::1"],
      ...["-keyout", join(folder, "key"), "-out", join(folder, "crt")],
    ],
    { stdio: "ignore" },
  );
  const cert = readFileSync(join(folder, "crt"));
  pin = createHash("sha256")
    .update(new X509Certificate(cert).publicKey.export({ type: "spki", format: "der" }))
    .digest("base64");
  await listen("http", createServer(answer));
  await listen("https", createTlsServer({ cert, key: readFileSync(join(folder, "key")) }, answer));
  await listen(
    "closing",
    createSocketServer((socket) => socket.once("data", () => socket.destroy())),
  );
  await listen(
    "silent",
    createSocketServer(() => {}),
  );
});
test.after(() => {
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true });
});

test("wrong questions get a sentence, in the order of the questions", async () => {
  const results = await ask([
    { check: "nonsense", args: {} },
    { check: "path", args: { path: "/etc", colour: "red" } },
    { check: "user", args: {} },
    { check: "path", args: { path: 7 } },
    { check: "path", args: { path: "/etc", type: "directory", owner: "root", mode: "0755" } },
  ]);
  assert.equal(
    results.map((r) => r.ok),
    [false, false, false, false, true],
  );
  assert.is(results[0]?.message, "there is no check 'nonsense'");
  assert.is(results[1]?.message, "the check path has no argument 'colour' (it takes path, type, owner, group, mode, target)");
  assert.match(results[2]?.message ?? "", /^the check user needs the argument 'name'/);
  assert.not.match(results[3]?.message ?? "", /Traceback/);
  assert.equal(
    results.map((r) => r.id),
    ["c0", "c1", "c2", "c3", "c4"],
  );
});

test("a command: its exit code, its output, its time", async () => {
  assert.ok((await one("command", { argv: ["echo", "a b"], stdout: "a b" })).ok);
  assert.is(
    (await one("command", { argv: ["sh", "-c", "echo no >&2; exit 3"] })).message,
    "sh -c echo no >&2; exit 3: exit code 3, expected 0: no",
  );
  const began = Date.now();
  assert.is((await one("command", { argv: ["sleep", "30"], timeout: 0.5 })).message, "no answer within 0.5 s");
  assert.ok(Date.now() - began < 25_000); // and not the thirty seconds that it takes
});

test("http: status, headers, body, request", async () => {
  const base = { url: "http://a.example/x", connect: address.http ?? "" };
  assert.ok((await one("http", { ...base, headers: { "X-One": "1", "X-Two": null }, once: ["X-One"], contains: "GET a.example - " })).ok);
  assert.ok(
    (await one("http", { ...base, method: "POST", form: { a: "b c" }, contains: "POST a.example application/x-www-form-urlencoded a=b+c" }))
      .ok,
  );
  assert.ok((await one("http", { ...base, method: "POST", json: { a: 1 }, contains: 'application/json {"a": 1}' })).ok);
  assert.ok((await one("http", { ...base, url: "http://a.example/moved", status: 301, location: "https://a.example/there" })).ok);
  assert.match(
    (await one("http", { ...base, url: "http://a.example/twice", once: ["X-Once"] })).message,
    /X-Once is there 2 times, expected once/,
  );
  assert.is((await one("http", { ...base, status: 404 })).seen, 200);
  assert.match((await one("http", { ...base, headers: { "X-One": null } })).message, /the header X-One is there: 1/);
});

test("http: a connection closed without an answer has status 0; one that says nothing is a failure", async () => {
  assert.ok((await one("http", { url: "http://a/", connect: address.closing ?? "", status: 0 })).ok);
  assert.ok((await one("http", { url: "https://a/", connect: address.closing ?? "", status: 0 })).ok);
  assert.match((await one("http", { url: "http://a/", connect: address.silent ?? "", timeout: 0.3 })).message, /no answer within 0.3 s/);
  assert.match((await one("http", { url: "http://a/", connect: "127.0.0.1:1", status: 0 })).message, /Connection refused/);
});

test("http asks again as long as `within` says", async () => {
  const base = { url: "http://a/later", connect: address.http ?? "" };
  busyUntil = Number.POSITIVE_INFINITY;
  assert.is((await one("http", base)).ok, false);
  busyUntil = Date.now() + 700;
  assert.is((await one("http", { ...base, within: 5 })).ok, true);
});

test("TLS: names, pin and trust", async () => {
  const connect = address.https ?? "";
  assert.ok((await one("tls", { connect, sni: "a.example", names: ["*.b.example", "127.0.0.1", "::1", "a.example"], pin })).ok);
  assert.match((await one("tls", { connect, sni: "a.example", names: ["a.example"] })).message, /the names of its certificate/);
  assert.ok((await one("http", { url: "https://a.example/", connect, pin })).ok);
  assert.ok((await one("http", { url: "https://a.example/", connect, ca: join(folder, "crt") })).ok);
  assert.match((await one("http", { url: "https://c.example/", connect, ca: join(folder, "crt") })).message, /not trusted/);
  assert.match((await one("http", { url: "https://a.example/", connect, pin: "AAAA" })).message, /pin/);
});

test("tcp: open, closed", async () => {
  const [host = "", port = ""] = (address.silent ?? "").split(":");
  assert.ok((await one("tcp", { host, port: Number(port), open: true })).ok);
  assert.match((await one("tcp", { host, port: Number(port), open: false })).message, /is open, expected closed/);
  assert.ok((await one("tcp", { host, port: 1, open: false })).ok);
});

test("what is wrong anywhere in a folder is named, but for what is declared itself", async () => {
  const path = join(folder, "contents");
  const owner = userInfo().username;
  mkdirSync(join(path, "a/b"), { recursive: true });
  mkdirSync(join(path, "own"));
  for (const name of ["a/b/fine", "a/b/open", "own/open"]) writeFileSync(join(path, name), "");
  for (const name of ["a/b/open", "own/open"]) chmodSync(join(path, name), 0o666);
  symlinkSync("nowhere", join(path, "a/link"));
  const ask = (more: Record<string, Json>) => one("contents", { path, owner, ...more });
  assert.equal(
    (await ask({ mode: "0755" })).message,
    `${path}/a/b/open: mode is 0666, expected 0755 at most; ${path}/own/open: mode is 0666, expected 0755 at most`,
  );
  assert.match((await ask({ mode: "0755", apart: [`${path}/own`] })).message, /^\S+a\/b\/open: mode[^;]*$/);
  assert.match((await ask({ owner: "nobody" })).message, /owner is \S+, expected nobody; .*, and 4 more$/);
  assert.equal(await ask({}), { id: "c0", ok: true, message: "", seen: 7 });
  assert.match((await ask({ timeout: 0 })).message, /after 0 s and 0 things in it there are more/);
});

test.run();
