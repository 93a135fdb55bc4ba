// TLS before moto, in the network of tests/ec2/ec2.ts: pgBackRest and restic speak to S3 by nothing else.
// tls.js <file with the key> <file with the certificate> <address> <port> <moto's address> <moto's port>
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { createServer } from "node:tls";

const [, , key = "", cert = "", address = "", port = "", host = "", to = ""] = process.argv;
const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (from) => {
  const moto = connect(Number(to), host);
  from.on("error", () => moto.destroy());
  moto.on("error", () => from.destroy());
  from.pipe(moto).pipe(from);
});
server.on("tlsClientError", () => {});
server.listen(Number(port), address);
