// A file to swap to.
import { type Infer, integer, object, text, withDefault } from "../../lib/schema.ts";
import { inside, type Kind, kind } from "../kind.ts";
import { absolutePath } from "../names.ts";
import { foldersAbove } from "./directory.ts";
import { bytesOf } from "./volume.ts";

const schema = object({
  size: text({ pattern: "^[1-9][0-9]*(MiB|GiB)$", expected: "a size such as `1GiB`", description: "How large it is" }),
  file: withDefault({ ...absolutePath, description: "Where it is" }, "/var/lib/ingot-swap"),
  swappiness: withDefault(integer({ minimum: 0, maximum: 200, description: "How readily the kernel swaps (vm.swappiness)" }), 10),
});
type Swap = Infer<typeof schema>;

/** systemd's name for the file. */
const unitOf = (file: string): string => `${file.slice(1).replaceAll("-", "\\x2d").replaceAll("/", "-")}.swap`;

export const swap: Kind<Swap> = kind({
  kind: "swap",
  key: "swap",
  shape: "one",
  summary:
    "A file that the kernel swaps to, for a small machine that must not die of one large moment. A container machine shares the kernel of this computer: there the file is made, and nothing is switched on.",
  schema,
  examples: ["swap: { size: 1GiB }\n"],
  after: ({ value }, host) => foldersAbove(value.file, host),
  compile: ({ value }) => ({
    files: [
      {
        path: `/etc/systemd/system/${unitOf(value.file)}`,
        mode: "0644",
        content: [
          "[Unit]",
          "Description=Swap",
          "ConditionVirtualization=!container",
          "",
          "[Swap]",
          `What=${value.file}`,
          "",
          "[Install]",
          "WantedBy=swap.target",
          "",
        ].join("\n"),
      },
      { path: "/etc/sysctl.d/60-ingot-swap.conf", mode: "0644", content: `vm.swappiness = ${value.swappiness}\n` },
    ],
    steps: [
      { action: "swap", args: { unit: unitOf(value.file), file: value.file, bytes: bytesOf(value.size), swappiness: value.swappiness } },
    ],
  }),
  checks: ({ value }) => [inside("swap", { file: value.file, bytes: bytesOf(value.size) })],
});
