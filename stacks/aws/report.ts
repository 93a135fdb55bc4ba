// What a host says of its own first boot: it PUTs its report into the bucket as its steps end. And, when it says nothing, its console.
import { parseLine } from "../local/report.ts";
import type { TargetEvent } from "../target.ts";
import type { Aws } from "./api.ts";
import { call } from "./errors.ts";
import { readObject } from "./object.ts";
import { names } from "./shape.ts";

export interface HostReport {
  /** Events that came since the last call. */
  read(): Promise<TargetEvent[]>;
}

export function reportOf(aws: Aws, bucket: string, stack: string, host: string, instance: string): HostReport {
  let seen = 0;
  return {
    async read() {
      const stored = await readObject(aws, bucket, `${names.reports(stack, host)}${instance}.jsonl`);
      // The whole object is written each time; its last line may be half a one.
      const lines = stored?.text.split("\n").slice(0, -1) ?? [];
      const fresh = lines.slice(seen);
      seen = Math.max(seen, lines.length);
      return fresh.flatMap((line) => parseLine(host, line) ?? []);
    },
  };
}

/** The end of what an instance wrote on its console; EC2 has it some minutes late on older types. */
export async function consoleOf(aws: Aws, instance: string): Promise<string> {
  const { GetConsoleOutputCommand } = await import("@aws-sdk/client-ec2");
  const ec2 = await aws.ec2();
  const { Output } = await call(`read the console of ${instance}`, () =>
    ec2.send(new GetConsoleOutputCommand({ InstanceId: instance, Latest: true })),
  );
  return Buffer.from(Output ?? "", "base64").toString("utf8");
}
