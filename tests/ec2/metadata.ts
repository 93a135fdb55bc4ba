// The metadata service (IMDSv2 only) of the test's instances: AWS's own mock of it cannot be had by ordinary means. It answers what
// cloud-init/host/aws.py and facts.py ask, as the Amazon EC2 User Guide, "Use IMDSv2" and "Instance metadata categories", has it. As on EC2
// one address serves all, and who asks is known by where the question comes from.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";

export interface InstanceMetadata {
  instance: string;
  /** Its private address: who asks from there is this instance. */
  address: string;
  region: string;
  tags: Record<string, string>;
  /** undefined: the instance has no role. */
  role?: string;
  credentials: { AccessKeyId: string; SecretAccessKey: string; Token: string };
}

/** @param who the instance that has an address */
export async function startMetadata(
  host: string,
  port: number,
  who: (address: string) => InstanceMetadata | undefined,
): Promise<{ url: string; stop(): Promise<void> }> {
  const tokens = new Set<string>();
  const server = createServer((request, response) => {
    const end = (status: number, text = "") => {
      response.writeHead(status, { "content-type": "text/plain" });
      response.end(text);
    };
    const path = decodeURIComponent((request.url ?? "").replace("/latest/", ""));
    if (path === "api/token") {
      if (request.method !== "PUT" || !request.headers["x-aws-ec2-metadata-token-ttl-seconds"]) return end(400);
      const token = randomBytes(20).toString("base64");
      tokens.add(token);
      return end(200, token);
    }
    if (!tokens.has(String(request.headers["x-aws-ec2-metadata-token"]))) return end(401);
    const instance = who(request.socket.remoteAddress ?? "");
    const answer = instance && answersOf(instance)[path];
    return answer === undefined ? end(404) : end(200, answer);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  const bound = server.address();
  return {
    url: `http://${host}:${bound && typeof bound === "object" ? bound.port : port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answersOf({ instance, address, region, tags, role, credentials }: InstanceMetadata): Record<string, string> {
  return {
    "meta-data/instance-id": instance,
    "meta-data/local-ipv4": address,
    "meta-data/placement/region": region,
    ...Object.fromEntries(Object.entries(tags).map(([k, v]) => [`meta-data/tags/instance/${k}`, v])),
    ...(role !== undefined && {
      "meta-data/iam/security-credentials/": role,
      // As pgBackRest asks.
      "meta-data/iam/security-credentials": role,
      [`meta-data/iam/security-credentials/${role}`]: JSON.stringify({
        Code: "Success",
        Type: "AWS-HMAC",
        ...credentials,
        Expiration: new Date(Date.now() + 3_600_000).toISOString().replace(/\.\d+Z/, "Z"),
      }),
    }),
  };
}
