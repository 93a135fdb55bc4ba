// A server of S3's protocol within a stack's own network: moto on this computer's loopback, TLS before it, and in the network's namespace a relay that leads
// there through a socket of the file system, because nothing of the two networks meets. Used by tests of backups in a bucket; needs root.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { createServer } from "node:tls";
import { asRoot } from "../lib/run.ts";
import { type Moto, startMoto } from "./moto.ts";

export interface S3Server {
  moto: Moto;
  /** The certificate (PEM) that the server's own is signed by. */
  authority: string;
  /** Reachable in the namespace from now on, once it is there. */
  appear(network: string, address: string, port: number): void;
  /** Gone, also for those who are connected. */
  cut(): void;
  /** From now on moto looks at keys, their signatures and what they may. Before that anybody may do anything. */
  guard(): Promise<void>;
  stop(): Promise<void>;
}

const relay = `
import socket, sys, threading, time
address, port, path = sys.argv[1:]
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
server = socket.create_server((address, int(port)))
while True:
    a, _ = server.accept()
    b = socket.socket(socket.AF_UNIX)
    b.connect(path)
    for pair in ((a, b), (b, a)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
`;

/** What listens at a socket of the file system, reachable in a namespace. @returns ends it, also for those who are connected */
export function reachable(path: string, network: string, address: string, port: number): () => void {
  let child: ChildProcess | undefined;
  let seen = 0;
  const end = () => {
    child?.kill("SIGKILL");
    child = undefined;
  };
  const looking = setInterval(() => {
    // A stack that is launched anew has another namespace of the same name.
    const now = statSync(`/run/netns/${network}`, { throwIfNoEntry: false })?.ino ?? 0;
    if (now === seen && child?.exitCode === null) return;
    end();
    seen = now;
    if (!seen) return;
    // The address of EC2's metadata service is nobody's in the stack's network; that of the operator is there.
    const own = address.startsWith("169.254.") ? `ip addr replace ${address}/32 dev lo; ` : "";
    const script = `${own}exec python3 -c "$0" "$@"`;
    const [file = "", ...args] = asRoot(["nsenter", `--net=/run/netns/${network}`, "sh", "-c", script, relay, address, String(port), path]);
    child = spawn(file, args, { stdio: "ignore" });
  }, 100);
  return () => {
    clearInterval(looking);
    end();
  };
}

/** @param name of the server, in its certificate. */
export async function startS3(name: string): Promise<S3Server> {
  const folder = mkdtempSync("/var/tmp/ingot-s3-");
  const { authority, key, certificate } = certificateFor(folder, name);
  // A server's name is no bucket's here: buckets are in the path.
  process.env.S3_IGNORE_SUBDOMAIN_BUCKETNAME = "true";
  const moto = await startMoto();
  const { port: motoPort, hostname } = new URL(moto.endpoint);
  const front = createServer({ key, cert: certificate }, (from) => {
    const to = connect(Number(motoPort), hostname);
    from.on("error", () => to.destroy());
    to.on("error", () => from.destroy());
    from.pipe(to).pipe(from);
  });
  front.on("tlsClientError", () => {});
  const path = join(folder, "socket");
  await new Promise<void>((resolve) => front.listen(path, resolve));
  let cut = () => {};
  return {
    moto,
    authority,
    appear(network, address, port) {
      cut();
      cut = reachable(path, network, address, port);
    },
    cut: () => cut(),
    async guard() {
      await fetch(`${moto.endpoint}/moto-api/reset-auth`, { method: "POST", body: "0" });
    },
    async stop() {
      cut();
      front.close();
      await moto.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Of a server with these names. @param folder where openssl may write */
export function certificateFor(folder: string, ...names: string[]): { authority: string; key: string; certificate: string } {
  const at = (file: string) => join(folder, file);
  const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
  openssl("req", "-x509", ...ec, "-days", "30", "-subj", "/CN=the test's own authority", "-keyout", at("ca.key"), "-out", at("ca.crt"));
  openssl("req", ...ec, "-subj", `/CN=${names[0]}`, "-keyout", at("key"), "-out", at("request"));
  writeFileSync(at("names"), `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}\n`);
  const signed = ["-CA", at("ca.crt"), "-CAkey", at("ca.key"), "-CAcreateserial", "-days", "30", "-extfile", at("names")];
  openssl("x509", "-req", "-in", at("request"), ...signed, "-out", at("crt"));
  const [authority = "", key = "", certificate = ""] = ["ca.crt", "key", "crt"].map((file) => readFileSync(at(file), "utf8"));
  return { authority, key, certificate };
}
