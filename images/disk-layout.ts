// How the bootable disk of an image is laid out: sizes, places and ids, computed from the image alone.
import { sha256 } from "../lib/digest.ts";
import { bytesOf } from "./lock.ts";
import type { Recipe } from "./recipe-schema.ts";

/** Where things are on the disk, in sectors of 512 bytes: as on Debian's own cloud images, with the root last so that it can grow. */
export interface Layout {
  sectors: number;
  bios: { start: number; sectors: number };
  esp: { start: number; sectors: number };
  root: { start: number; sectors: number };
  /** Made from the image's name: they stay from one version to the next, so that two differ only where their content does. */
  ids: Record<"disk" | "bios" | "esp" | "root" | "fileSystem" | "hashSeed", string> & { espVolume: string };
}

type Sized = { name: string; manifest: { size: number } };

const [MiB, GiB] = [2 ** 20, 2 ** 30];
const espStart = 8192;

/** As large as the recipe says, or as what is in it needs, with room to boot in; it grows to its machine's disk at first boot. */
export function layoutOf(image: Sized, disk: Recipe["disk"]): Layout {
  const esp = bytesOf(disk.esp);
  const size = disk.size === undefined ? Math.ceil((image.manifest.size * 1.5 + esp + 960 * MiB) / GiB) * GiB : bytesOf(disk.size);
  const sectors = size / 512;
  const root = espStart + esp / 512;
  const id = (what: string) => uuidOf(`${image.name} ${what}`);
  return {
    sectors,
    bios: { start: 2048, sectors: 6144 },
    esp: { start: espStart, sectors: esp / 512 },
    // The second table of partitions is in the last 33 sectors; whole MiB, as partitioning programs like it.
    root: { start: root, sectors: sectors - root - 2048 },
    ids: {
      disk: id("disk"),
      bios: id("bios"),
      esp: id("esp"),
      root: id("root"),
      fileSystem: id("file system"),
      hashSeed: id("hash seed"),
      espVolume: sha256(`${image.name} esp volume`).slice(0, 8),
    },
  };
}

/** Bytes that a disk must have for the image: what ext4 keeps of its own (inodes, its journal, root's reserve) is beside its files. */
export const leastOf = ({ manifest }: Sized, { esp }: Recipe["disk"]): number => Math.ceil(manifest.size * 1.25) + bytesOf(esp) + 256 * MiB;

/** A UUID of version 8 (RFC 9562), which says that its bits are its maker's own. */
function uuidOf(text: string): string {
  const hex = sha256(text);
  const variant = ((Number.parseInt(hex[16] ?? "0", 16) & 3) | 8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** GRUB's BIOS boot partition, the EFI system partition, and the root of an architecture (UAPI's Discoverable Partitions Specification). */
export const partitionTypes = {
  bios: "21686148-6449-6E6F-744E-656564454649",
  esp: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
  root: { amd64: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", arm64: "B921B045-1DF0-41C3-AF44-4C6F280D3FAE" } as Record<string, string>,
};

/** For sfdisk(8). */
export function partitionTable({ sectors, ids, bios, esp, root }: Layout, architecture: string): string {
  const line = (number: number, at: { start: number; sectors: number }, type: string, id: string) =>
    `${number} : start=${at.start}, size=${at.sectors}, type=${type}, uuid=${id}\n`;
  return [
    `label: gpt\nlabel-id: ${ids.disk}\nunit: sectors\nfirst-lba: 2048\nlast-lba: ${sectors - 34}\n\n`,
    line(1, root, partitionTypes.root[architecture] ?? "", ids.root),
    line(14, bios, partitionTypes.bios, ids.bios),
    line(15, esp, partitionTypes.esp, ids.esp),
  ].join("");
}
