// tests/aws-front.ts as a program of its own, for ec2.ts: where an AMI is made block by block in the test's network.
// front.js <moto's endpoint> <address> <port>
import { awsFront } from "../aws-front.ts";

const [, , moto = "", host = "", port = ""] = process.argv;
const front = await awsFront(moto, { host, port: Number(port) });
// The disks of real images are too large to be kept.
front.ebs.keeps = "digests";
