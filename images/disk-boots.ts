// By which firmware a disk has come up, written beside it by who booted it (stacks/local/vm.ts): what an AMI may say of itself is what was seen
// (stacks/aws/ami/register.ts).
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";

export const firmwares = ["uefi", "bios"] as const;
export type Firmware = (typeof firmwares)[number];

/** ISO 8601: when it was seen first. */
type Boots = Partial<Record<Firmware, string>>;

const fileOf = (disk: string): string => `${disk.replace(/\.(raw|qcow2)$/, "")}.boots.json`;

/** A machine on this disk has come up by this firmware. Who may not write there leaves no word of it. */
export function noteBoot(disk: string, firmware: Firmware): void {
  const boots = read(disk);
  if (boots[firmware] !== undefined) return;
  const file = fileOf(disk);
  try {
    writeFileSync(`${file}.${process.pid}`, JSON.stringify({ ...boots, [firmware]: new Date().toISOString() }));
    renameSync(`${file}.${process.pid}`, file);
  } catch (error) {
    if (!/^(EACCES|EROFS)$/.test((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

/** @param disk path of images/disk.ts's */
export const bootsOf = (disk: string): Firmware[] => firmwares.filter((f) => read(disk)[f] !== undefined);

function read(disk: string): Boots {
  const file = fileOf(disk);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Boots) : {};
}
