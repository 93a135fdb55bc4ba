// A program: ssh's ProxyCommand to an instance through SSM. tunnel.js <region> <instance>. It asks SSM for a session to the machine's port
// 22 and hands standard input and output to AWS's own session-manager-plugin, which speaks the session's protocol.
// Source: AWS Systems Manager User Guide, "Allow and control permissions for SSH connections through Session Manager".
import { spawn } from "node:child_process";
import { awsOf } from "./api.ts";
import { call, codeOf } from "./errors.ts";

const [, , region = "", instance = ""] = process.argv;

/** To ssh's standard error, where connection.ts finds it. */
function give(up: string): never {
  process.stderr.write(`tunnel: ${up.replaceAll("\n", " ")}\n`);
  process.exit(1);
}

const aws = await awsOf(region);
const ssm = await aws.ssm();
const { StartSessionCommand, TerminateSessionCommand } = await import("@aws-sdk/client-ssm");
const request = { Target: instance, DocumentName: "AWS-StartSSHSession", Parameters: { portNumber: ["22"] } };
const { SessionId, StreamUrl, TokenValue } = await call(`open a session to ${instance}`, () =>
  ssm.send(new StartSessionCommand(request)),
).catch((error: Error) =>
  give(
    codeOf(error) === "TargetNotConnected"
      ? `the SSM agent of ${instance} has not called SSM: is it still booting, or without a way out of its subnet?`
      : error.message,
  ),
);
// In the environment, not in an argument, which every user of this computer could read: the token opens the session.
const session = "AWS_SSM_START_SESSION_RESPONSE";
const endpoint = process.env.AWS_ENDPOINT_URL_SSM ?? process.env.AWS_ENDPOINT_URL ?? `https://ssm.${region}.amazonaws.com`;
const plugin = spawn("session-manager-plugin", [session, region, "StartSession", "", JSON.stringify(request), endpoint], {
  stdio: "inherit",
  env: { ...process.env, [session]: JSON.stringify({ SessionId, StreamUrl, TokenValue }) },
});
const end = async (code: number): Promise<never> => {
  await ssm.send(new TerminateSessionCommand({ SessionId })).catch(() => {}); // it ends by itself after 20 idle minutes
  process.exit(code);
};
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => plugin.kill(signal));
plugin.on("error", async (error: NodeJS.ErrnoException) => {
  await ssm.send(new TerminateSessionCommand({ SessionId })).catch(() => {});
  give(
    error.code === "ENOENT"
      ? "session-manager-plugin is not on the PATH: https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"
      : error.message,
  );
});
plugin.on("close", (code) => end(code ?? 1));
