// A host's data volumes. They outlive the instance: replaced or gone, they stay, and are found again by their tags.
import { EbsVolume } from "@cdktf/provider-aws/lib/ebs-volume/index.js";
import type { Construct } from "constructs";
import { named } from "./network.ts";
import { type AwsHost, id, names, tagsOf } from "./shape.ts";

/** @param release volumes that may be deleted: "host/volume" */
export function disksOf(scope: Construct, stack: string, host: AwsHost, release: string[]): Map<string, EbsVolume> {
  return new Map(
    host.volumes.map((volume) => [
      volume.name,
      named(
        new EbsVolume(scope, `volume-${host.host}-${volume.name}`, {
          availabilityZone: host.zones[0] ?? "",
          size: volume.size,
          type: "gp3",
          encrypted: true,
          ...(volume.snapshot !== undefined && { snapshotId: volume.snapshot }),
          tags: {
            ...tagsOf(stack, host),
            Name: `${stack}/${host.host} ${volume.name}`,
            [names.tags.volume]: volume.name,
            [names.tags.mount]: volume.mount,
            [names.tags.snapshots]: `${stack}/${host.host}`,
          },
          // Which snapshot it was made from matters once; naming another must not replace what has data by now.
          lifecycle: { preventDestroy: !release.includes(`${host.host}/${volume.name}`), ignoreChanges: ["snapshot_id"] },
        }),
        id(host.host, volume.name),
      ),
    ]),
  );
}
