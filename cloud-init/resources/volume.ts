// A disk of its own for data that outlives the machine.

import { unitName } from "../../lib/quote.ts";
import { choice, type Infer, list, object, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, isBelow, type Kind, kind, type Problem, pkg, type Resource } from "../kind.ts";
import { postgresql } from "./postgresql.ts";

const units: Record<string, number> = { MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
/** Bytes of `10GiB`. */
export const bytesOf = (size: string): number => {
  const [, count = "0", unit = ""] = /^(\d+)(\w+)$/.exec(size) ?? [];
  return Number(count) * (units[unit] ?? 0);
};

export const deviceOf = (name: string): string => `/dev/disk/by-id/ingot-${name}`;

const schema = object({
  mount: text({
    pattern: "^(?!.*//)(?!.*/[.]{1,2}(/|$))/[^\\s]*[^\\s/]$",
    description: "Where it is mounted",
    expected: "an absolute path without `..` and without `/` at its end",
  }),
  size: withDefault(text({ pattern: "^[1-9][0-9]*(MiB|GiB|TiB)$", description: "Its size", expected: "a size such as `10GiB`" }), "10GiB"),
  filesystem: withDefault(choice(["ext4", "xfs"], { description: "Made once, when the disk is blank" }), "ext4"),
  options: withDefault(list(choice(["nodev", "nosuid", "noexec", "noatime"]), { description: "Mount options" }), []),
});
type Volume = Infer<typeof schema>;

/** Folders that the system itself needs as they are in the image. */
const ofSystem =
  /^\/(bin|boot|dev|etc|lib|lib32|lib64|proc|root|run|sbin|sys|tmp|usr|var)$|^\/(boot|dev|etc|proc|run|sys|usr)\/|^\/var\/(lib|cache)$|^\/var\/lib\/(dpkg|apt|cloud|ingot|systemd)(\/|$)/;

/** In MiB. mkfs.xfs refuses less than 300 MB since xfsprogs 5.19; initdb makes 40 MB, and the log of transactions grows to 64 before it is cut. */
const leastSizes: Record<string, number> = { ext4: 16, xfs: 300, postgresql: 256 };

export const volume: Kind<Volume> = kind({
  kind: "volume",
  key: "volumes",
  shape: "many",
  summary:
    "A disk that outlives the machine: an EBS volume on EC2, a file-backed disk here. It is found again by its serial, given a file system only when it is proven blank, and never formatted again.",
  schema,
  examples: ["volumes:\n  data: { mount: /var/lib/data, size: 20GiB, options: [nodev, nosuid] }\n"],
  after: ({ name, value }, host) =>
    host
      .all(volume)
      .filter((v) => v.name !== name && v.value.mount !== value.mount && isBelow(value.mount, v.value.mount))
      .map((v) => v.id),
  problems: (self, host): Problem[] => {
    const { mount, size, filesystem } = self.value;
    const problems: Problem[] = host
      .all(volume)
      .filter((other) => other.name > self.name && other.value.mount === mount)
      .map((other) => ({
        code: "ING1502",
        message: `volumes ${self.name} and ${other.name} are both mounted at ${mount}`,
        related: { id: other.id, message: `${other.name} is declared here` },
      }));
    if (ofSystem.test(mount))
      problems.push({
        code: "ING1445",
        path: ["mount"],
        message: `a disk at ${mount} would hide what the image has there`,
        hint: "mount it at the folder whose data it is to keep, such as /srv or /var/lib/postgresql",
      });
    const data = host.get(postgresql)?.value.data;
    const holds = data !== undefined && isBelow(data, mount) ? postgresql.kind : filesystem;
    const least = leastSizes[holds] ?? 0;
    if (bytesOf(size) < least * 2 ** 20)
      problems.push({
        code: "ING1444",
        path: ["size"],
        message: `${size} is too small: ${holds === filesystem ? `a file system of ${filesystem}` : "a new cluster of PostgreSQL"} needs ${least}MiB`,
      });
    return problems;
  },
  needs: ({ value }) => (value.filesystem === "xfs" ? [pkg("xfsprogs")] : []),
  compile: ({ name, value }) => {
    const unit = `${unitName(value.mount)}.mount`;
    return {
      volumes: [{ name, mount: value.mount, size: bytesOf(value.size), filesystem: value.filesystem }],
      files: [
        {
          path: `/etc/systemd/system/${unit}`,
          mode: "0644",
          content: [
            "[Unit]",
            `Description=Data volume ${name}`,
            "Before=local-fs.target",
            "",
            "[Mount]",
            `What=${deviceOf(name)}`,
            `Where=${value.mount}`,
            `Type=${value.filesystem}`,
            ...(value.options.length ? [`Options=${value.options.join(",")}`] : []),
            "",
            "[Install]",
            "WantedBy=local-fs.target",
            "",
          ].join("\n"),
        },
      ],
      steps: [{ action: "volume", args: { device: deviceOf(name), mount: value.mount, filesystem: value.filesystem, unit } }],
    };
  },
  checks: ({ value }) => [inside("mount", { path: value.mount, options: value.options })],
});

/** The volume that a path is on, the nearest. */
export const volumeAt = (path: string, host: Host): Resource<Volume> | undefined =>
  host
    .all(volume)
    .filter((v) => isBelow(path, v.value.mount))
    .sort((a, b) => b.value.mount.length - a.value.mount.length)[0];
