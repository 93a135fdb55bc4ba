// A body for moto's Route53, in the network of tests/ec2/ec2.ts: the name servers of its zones, and the resolver of whoever is in that network. They answer
// what moto has then, and hold nothing.
// route53.js <moto's endpoint> <address>
import { serveDns } from "../dns.ts";

const [, , moto = "", address = ""] = process.argv;
// moto looks here for the service alone.
const authorization = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/route53/aws4_request, SignedHeaders=host, Signature=0";
const ask = async (path: string): Promise<string> => {
  const response = await fetch(`${moto}/2013-04-01/${path}`, { headers: { authorization } });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.text();
};
const all = (text: string, element: string): string[] =>
  [...text.matchAll(new RegExp(`<${element}>([^]*?)</${element}>`, "g"))].map(([, inner = ""]) => inner);
const plain = (name = ""): string => name.replace(/\.$/, "").replaceAll("\\052", "*");

await serveDns(address, 53, async (name, type) => {
  // Wherever Route53 says that its name servers are, they are here.
  if (/^ns-.*\.awsdns-/.test(name)) return type === "A" ? [address] : [];
  const zones = all(await ask("hostedzone"), "HostedZone");
  const sets = await Promise.all(
    zones.map(async (zone) => all(await ask(`hostedzone/${all(zone, "Id")[0]?.split("/").at(-1)}/rrset`), "ResourceRecordSet")),
  );
  const found = sets.flat().filter((set) => plain(all(set, "Name")[0]) === name);
  if (!found.length) return undefined;
  return found.filter((set) => all(set, "Type")[0] === type).flatMap((set) => all(set, "Value").map(plain));
});
