// Archives of packages on loopback, for tests: laid out and signed as a distribution's are, and served by a proxy of HTTP, so that a recipe
// keeps the addresses that it has in earnest. apt is told of the proxy in the way that a person would: a file that APT_CONFIG names.
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as HttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";

type Content = string | Buffer | { link: string };

export class TestArchives {
  /** What is below it is served by its address: `archive.ubuntu.com/ubuntu/dists/…`. */
  readonly folder = mkdtempSync(join(tmpdir(), "ingot-archives-"));
  /** Whoever asks for something below one of these must log in by this. */
  readonly passwords: Record<string, string> = {};
  /** Every address that was asked for. */
  readonly asked: string[] = [];
  private readonly keys = mkdtempSync(join(tmpdir(), "ingot-gpg-"));

  private readonly servers: (HttpServer | HttpsServer)[] = [];

  private answer(address: string, request: IncomingMessage, response: ServerResponse): void {
    this.asked.push(address);
    const wanted = Object.entries(this.passwords).find(([below]) => address.startsWith(below))?.[1];
    if (wanted !== undefined && request.headers.authorization !== `Basic ${Buffer.from(wanted).toString("base64")}`)
      return void response.writeHead(401, { "WWW-Authenticate": 'Basic realm="test"' }).end();
    const path = join(this.folder, address);
    if (!path.startsWith(`${this.folder}/`) || !existsSync(path) || !statSync(path).isFile()) return void response.writeHead(404).end();
    response.writeHead(200, { "Content-Length": statSync(path).size });
    response.end(readFileSync(path));
  }

  private async listen(server: HttpServer | HttpsServer): Promise<number> {
    this.servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return (server.address() as AddressInfo).port;
  }

  /** Serves, and has apt ask it for everything until `close()`. */
  static async open(): Promise<TestArchives> {
    const archives = new TestArchives();
    const port = await archives.listen(
      createServer((request, response) =>
        archives.answer(decodeURIComponent((request.url ?? "").replace(/^http:\/\//, "")), request, response),
      ),
    );
    const file = join(archives.keys, "apt.conf");
    writeFileSync(file, `Acquire::http::Proxy "http://127.0.0.1:${port}";\nAcquire::Retries "0";\n`);
    process.env.APT_CONFIG = file;
    return archives;
  }

  /** What is below `localhost` in the folder by HTTPS, too, without the proxy. The certificate is its own authority. */
  async openTls(): Promise<{ address: string; certificate: string }> {
    const [key, certificate] = [join(this.keys, "tls.key"), join(this.keys, "tls.pem")];
    const made = ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", ...made], {
      stdio: "ignore",
    });
    const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (request, response) =>
      this.answer(`localhost${decodeURIComponent(request.url ?? "")}`, request, response),
    );
    return { address: `https://localhost:${await this.listen(server)}`, certificate };
  }

  /** More of apt's configuration from now on. */
  configure(lines: string): void {
    appendFileSync(join(this.keys, "apt.conf"), lines);
  }

  close(): void {
    delete process.env.APT_CONFIG;
    for (const server of this.servers) {
      server.close();
      server.closeAllConnections();
    }
    execFileSync("gpgconf", ["--kill", "all"], { env: { ...process.env, GNUPGHOME: this.keys } });
    for (const folder of [this.folder, this.keys]) rmSync(folder, { recursive: true, force: true });
  }

  private gpg(...args: string[]): string {
    return execFileSync("gpg", ["--batch", "--yes", "--quiet", "--passphrase", "", ...args], {
      env: { ...process.env, GNUPGHOME: this.keys },
      stdio: ["ignore", "pipe", "ignore"],
      encoding: "utf8",
    });
  }

  /** A new key; what is given is its public half. */
  key(who: string): string {
    this.gpg("--quick-gen-key", `${who} <${who}@example.org>`, "ed25519", "sign", "never");
    return this.gpg("--armor", "--export", `${who}@example.org`);
  }

  /** Puts .debs into a suite of the archive at `address`, in place of what was in it, and signs it as `who`. */
  publish(address: string, suite: string, components: Record<string, string[]>, who: string, more: Record<string, string> = {}): void {
    const root = join(this.folder, address);
    const tool = (...args: string[]) => execFileSync("apt-ftparchive", args, { cwd: root, encoding: "utf8" });
    const dists = join(root, "dists", suite);
    rmSync(dists, { recursive: true, force: true });
    for (const [component, debs] of Object.entries(components)) {
      // A pool of the suite's own: an index has what lies below the folder that it is made of.
      const pool = `pool/${suite}/${component}`;
      rmSync(join(root, pool), { recursive: true, force: true });
      mkdirSync(join(root, pool), { recursive: true });
      for (const deb of debs) copyFileSync(deb, join(root, pool, basename(deb)));
      const index = join(dists, component, "binary-amd64", "Packages");
      mkdirSync(dirname(index), { recursive: true });
      writeFileSync(index, tool("packages", pool));
    }
    const fields = { Suite: suite, Codename: suite, Components: Object.keys(components).join(" "), Architectures: "amd64", ...more };
    const options = Object.entries(fields).flatMap(([k, v]) => ["-o", `APT::FTPArchive::Release::${k}=${v}`]);
    const release = tool(...options, "release", `dists/${suite}`);
    writeFileSync(join(dists, "Release"), release);
    this.gpg("--local-user", `${who}@example.org`, "--clearsign", "--output", join(dists, "InRelease"), join(dists, "Release"));
  }

  /** A .deb of a cache, under the name that an archive gives it. */
  named(path: string, { name, version, architecture }: { name: string; version: string; architecture: string }): string {
    const file = join(this.keys, "debs", `${name}_${version.replace(/^\d+:/, "")}_${architecture}.deb`);
    mkdirSync(dirname(file), { recursive: true });
    copyFileSync(path, file);
    return file;
  }

  /** A package with nothing in it but its name and these files, by their paths. */
  deb(name: string, version: string, fields: Record<string, string> = {}, files: Record<string, Content> = {}): string {
    const tree = join(this.keys, `${name}_${version}`);
    const file = join(this.keys, "debs", `${name}_${version.replace(/^\d+:/, "")}_all.deb`);
    if (existsSync(file)) return file;
    mkdirSync(join(tree, "DEBIAN"), { recursive: true });
    mkdirSync(dirname(file), { recursive: true });
    const control = {
      Package: name,
      Version: version,
      Architecture: "all",
      Maintainer: "Test <test@example.org>",
      Description: name,
      ...fields,
    };
    writeFileSync(
      join(tree, "DEBIAN/control"),
      Object.entries(control)
        .map(([k, v]) => `${k}: ${v}\n`)
        .join(""),
    );
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(tree, path)), { recursive: true });
      if (typeof content === "string" || Buffer.isBuffer(content)) writeFileSync(join(tree, path), content);
      else symlinkSync(content.link, join(tree, path));
    }
    execFileSync("dpkg-deb", ["--root-owner-group", "--build", "-Znone", tree, file], { stdio: "ignore" });
    return file;
  }
}
