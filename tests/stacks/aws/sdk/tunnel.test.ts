// ssh's way through SSM, up to AWS's own plugin: neither that plugin nor SSM's data channel can be had here, so a script stands for the one
// and a server for StartSession (moto has none).
import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import * as assert from "uvu/assert";
import { toolFolder } from "../../../../lib/paths.ts";
import { connectTo } from "../../../../stacks/aws/connection.ts";
import { names, wayTo } from "../../../../stacks/aws/shape.ts";
import { secretsOf } from "../../../../stacks/secrets.ts";
import type { Machine } from "../../../../stacks/target.ts";
import { suite } from "../../../suite.ts";

const test = suite("tunnel");
const folder = mkdtempSync(join(tmpdir(), "ingot-tunnel-"));
const asked: { action: string; body: unknown }[] = [];
let answer: { status: number; body: object };
let server: Server;
let endpoint: string;

const script = (name: string, text: string): void => {
  writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`);
  chmodSync(join(folder, name), 0o755);
};

test.before(async () => {
  server = createServer((from, to) => {
    const chunks: Buffer[] = [];
    from.on("data", (chunk: Buffer) => chunks.push(chunk));
    from.on("end", () => {
      const action = String(from.headers["x-amz-target"]).split(".")[1] ?? "";
      asked.push({ action, body: JSON.parse(Buffer.concat(chunks).toString()) });
      const said = action === "StartSession" ? answer : { status: 200, body: { SessionId: "s-1" } };
      to.writeHead(said.status, { "content-type": "application/x-amz-json-1.1" });
      to.end(JSON.stringify(said.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  endpoint = `http://127.0.0.1:${address && typeof address === "object" ? address.port : 0}`;
});
test.before.each(() => {
  asked.length = 0;
  answer = { status: 200, body: { SessionId: "s-1", StreamUrl: "wss://there", TokenValue: "the-token" } };
  script("session-manager-plugin", `printf '%s\\n' "$@" >${folder}/args; printenv AWS_SSM_START_SESSION_RESPONSE >${folder}/session; cat`);
});
test.after(() => {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true });
});

async function tunnel(input: string, path = `${folder}${delimiter}${process.env.PATH}`) {
  const env = {
    ...process.env,
    AWS_ENDPOINT_URL: endpoint,
    AWS_ACCESS_KEY_ID: "a",
    AWS_SECRET_ACCESS_KEY: "b",
    AWS_EC2_METADATA_DISABLED: "true",
  };
  const child = spawn(process.execPath, [join(toolFolder, "dist/tunnel.js"), "eu-central-1", "i-1"], { env: { ...env, PATH: path } });
  const out = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (out.stdout += chunk));
  child.stderr.on("data", (chunk: Buffer) => (out.stderr += chunk));
  child.stdin.on("error", () => {}); // it may have given up before
  child.stdin.end(input);
  const code = await new Promise((resolve) => child.once("close", resolve));
  return { ...out, code };
}

test("bytes go there and back; the session is to port 22, and is ended", async () => {
  const { stdout, code } = await tunnel("SSH-2.0-test\r\n");
  assert.equal([stdout, code], ["SSH-2.0-test\r\n", 0]);
  assert.equal(asked, [
    { action: "StartSession", body: { Target: "i-1", DocumentName: "AWS-StartSSHSession", Parameters: { portNumber: ["22"] } } },
    { action: "TerminateSession", body: { SessionId: "s-1" } },
  ]);
});

test("the plugin is told the session without its token being in an argument", async () => {
  await tunnel("");
  const args = readFileSync(join(folder, "args"), "utf8");
  assert.equal(args.split("\n").slice(0, 4), ["AWS_SSM_START_SESSION_RESPONSE", "eu-central-1", "StartSession", ""]);
  assert.not.match(args, /the-token/);
  assert.equal(JSON.parse(readFileSync(join(folder, "session"), "utf8")), {
    SessionId: "s-1",
    StreamUrl: "wss://there",
    TokenValue: "the-token",
  });
});

test("an agent that has not called, and a plugin that is not there, are said as such", async () => {
  answer = { status: 400, body: { __type: "TargetNotConnected", message: "i-1 is not connected." } };
  assert.match((await tunnel("")).stderr, /^tunnel: the SSM agent of i-1 has not called SSM/m);
  answer = { status: 200, body: { SessionId: "s-1", StreamUrl: "wss://there", TokenValue: "the-token" } };
  rmSync(join(folder, "session-manager-plugin"));
  const { stderr, code } = await tunnel("", "/nowhere");
  assert.match(stderr, /^tunnel: session-manager-plugin is not on the PATH: https:/m);
  assert.is(code, 1);
  assert.is(asked.at(-1)?.action, "TerminateSession");
});

test("it is the way to a host with the agent where port 22 is open to nobody, and only there", () => {
  const open = ["0.0.0.0/0"];
  assert.is(wayTo({ agent: true, address: "private", sshFrom: open }), "ssm");
  assert.is(wayTo({ agent: true, address: "dynamic", sshFrom: [] }), "ssm");
  assert.is(wayTo({ agent: true, address: "elastic", sshFrom: open }), "ssh");
  assert.is(wayTo({ agent: false, address: "private", sshFrom: open }), "ssh");
});

test("ssh is given the tunnel, and what the tunnel says when it fails is the message", async () => {
  script("ssh", `printf '%s\\n' "$@" >${folder}/ssh-args; echo 'tunnel: no session today' >&2; exit 255`);
  const making = { get: async () => undefined, create: async (_: string, __: string, value: string) => value, placeOf: () => "" };
  const { key = "" } = await secretsOf(making, {
    stack: "shop",
    secrets: [{ name: "key", generate: "ssh-ed25519", resource: "operator" }],
  });
  const machine = { stack: "shop", host: "web", instance: "i-1", state: "running", address: "10.1.1.9" } as Machine;
  const store = { get: async () => key, create: async () => key, placeOf: () => names.operatorKey };
  const { PATH } = process.env;
  process.env.PATH = `${folder}${delimiter}${PATH}`;
  try {
    const connection = connectTo(machine, {
      store,
      region: "eu-central-1",
      about: async () => ({ distro: "ubuntu", way: "ssm" }),
      console: async () => "",
    });
    const error = await connection.exec(["true"]).then(
      () => undefined,
      (e: unknown) => e as { message: string; hint: string },
    );
    assert.match(error?.message ?? "", /no ssh to shop\/web/);
    assert.is(error?.hint, "no session today");
  } finally {
    process.env.PATH = PATH;
  }
  const args = readFileSync(join(folder, "ssh-args"), "utf8").split("\n");
  assert.ok(args.includes("ubuntu@i-1"));
  assert.match(args.find((a) => a.startsWith("ProxyCommand=")) ?? "", /dist\/tunnel\.js'? '?eu-central-1'? '?i-1/);
});

test.run();
