// QEMU's command line for one machine of the `vm` target, and by what it runs: KVM where a kernel has spoken under it, else TCG.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Firmware } from "../../images/disk-boots.ts";
import { digestOf, short } from "../../lib/digest.ts";
import type { Project } from "../../lib/paths.ts";
import { tryRun } from "../../lib/run.ts";

export type Acceleration = "kvm" | "tcg";

export const qemu = "qemu-system-x86_64";
/** Of Debian's and Ubuntu's package `ovmf`. */
export const ovmf = { code: "/usr/share/OVMF/OVMF_CODE_4M.fd", variables: "/usr/share/OVMF/OVMF_VARS_4M.fd" };

export interface QemuMachine {
  name: string;
  acceleration: Acceleration;
  firmware: Firmware;
  /** Bytes. */
  memory: number;
  cpus: number;
  /** Its interface in the stack's network; undefined: it has none. */
  network?: { tap: string; mac: string };
  /** Data volumes: absolute files by the serial of their disk. */
  volumes: { file: string; serial: string }[];
  /** Folders and files beside the console that are shown to it, read-only; paths are in the machine's folder, where QEMU runs. */
  seed?: "seed";
  facts?: "facts.img";
  artifacts?: "artifacts.img";
  /** How many commands may run in it at once (vm-exec.py). */
  ports: number;
}

/** Arguments for QEMU 7.2 or later, run in the machine's folder: all its own files are named relatively, so that no path needs quoting. */
export function qemuArguments(machine: QemuMachine): string[] {
  const { acceleration, firmware, network } = machine;
  // JSON, because the other form separates by commas, which paths may hold.
  const block = (node: Record<string, unknown>) => ["-blockdev", JSON.stringify(node)];
  const file = (filename: string) => ({ driver: "file", filename, locking: "off" });
  const readOnly = (name: string, driver: Record<string, unknown>) => [
    ...block({ driver: "raw", "node-name": name, "read-only": true, file: driver }),
    "-device",
    `virtio-blk-pci,drive=${name},serial=ingot-${name}`,
  ];
  return [
    "-nodefaults",
    "-no-user-config",
    ...["-name", machine.name, "-display", "none"],
    // It ends with a reboot, says that it was one, and is run again (vm-hold.sh): with a kernel's translated pages still in it, TCG takes minutes
    // to load the next one (page_collection_lock, QEMU 7.2).
    ...["-action", "reboot=shutdown", "-chardev", "stdio,id=events,signal=off", "-mon", "chardev=events,mode=control"],
    // Who copies a disk that it has open (vm-disk.py).
    ...["-chardev", "socket,id=qmp,path=qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control"],
    ...["-machine", `q35,accel=${acceleration}`, "-cpu", acceleration === "kvm" ? "host" : "max"],
    ...["-smp", String(machine.cpus), "-m", `${Math.floor(machine.memory / 2 ** 20)}M`],
    ...["-device", "virtio-rng-pci"],
    ...(firmware === "uefi"
      ? [
          ...block({ driver: "raw", "node-name": "firmware", "read-only": true, file: file(ovmf.code) }),
          ...block({ driver: "raw", "node-name": "variables", file: file("variables.fd") }),
          ...["-machine", "pflash0=firmware,pflash1=variables"],
        ]
      : []),
    ...["-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"],
    // As on EC2: the root and the data volumes are NVMe disks, known by their serial.
    ...block({ driver: "qcow2", "node-name": "root", discard: "unmap", file: file("root.qcow2") }),
    ...["-device", "nvme,drive=root,serial=ingot-root,bootindex=0"],
    ...machine.volumes.flatMap((volume, i) => [
      ...block({ driver: "raw", "node-name": `volume${i}`, discard: "unmap", file: { driver: "file", filename: volume.file } }),
      ...["-device", `nvme,drive=volume${i},serial=${volume.serial}`],
    ]),
    ...(machine.seed ? readOnly("seed", { driver: "vvfat", dir: machine.seed, label: "CIDATA" }) : []),
    ...(machine.facts ? readOnly("facts", file(machine.facts)) : []),
    ...(machine.artifacts ? readOnly("artifacts", file(machine.artifacts)) : []),
    ...(network
      ? [
          ...["-netdev", `tap,id=network,ifname=${network.tap},script=no,downscript=no`],
          ...["-device", `virtio-net-pci,netdev=network,mac=${network.mac}`],
        ]
      : []),
    ...(machine.ports ? ["-device", "virtio-serial-pci"] : []),
    ...Array.from({ length: machine.ports }, (_, i) => [
      ...["-chardev", `socket,id=port${i},path=port${i},server=on,wait=off`],
      ...["-device", `virtserialport,chardev=port${i},name=ingot.${i}`],
    ]).flat(),
  ];
}

/** Seconds within which a kernel must have spoken under KVM; a good one needs less than one. */
const proofSeconds = 10;

/**
 * By what machines of this computer run. /dev/kvm may open and still hang a guest (in a virtual machine on a processor that does not nest
 * well), so a kernel is booted under it, once for each boot of this computer: `kernel` is an image's, its file readable to the caller.
 */
export async function accelerationOf(project: Project, kernel: string): Promise<{ acceleration: Acceleration; why: string }> {
  const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  const file = join(project.cache, "acceleration.json");
  const key = short(digestOf({ boot, kernel, uid: process.getuid?.() ?? 0 }));
  if (existsSync(file)) {
    const known = JSON.parse(readFileSync(file, "utf8")) as { key: string; acceleration: Acceleration; why: string };
    if (known.key === key) return known;
  }
  const found = await prove(kernel);
  mkdirSync(project.cache, { recursive: true });
  writeFileSync(file, `${JSON.stringify({ key, ...found })}\n`);
  return found;
}

async function prove(kernel: string): Promise<{ acceleration: Acceleration; why: string }> {
  if (!existsSync("/dev/kvm")) return { acceleration: "tcg", why: "this computer has no /dev/kvm" };
  const machine = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256M"];
  // It panics for want of a root, and so ends by itself.
  const boot = ["-kernel", kernel, "-append", "console=ttyS0 panic=-1", "-no-reboot", "-serial", "stdio"];
  const { stdout, stderr } = await tryRun([qemu, ...machine, ...boot], { timeoutSeconds: proofSeconds });
  if (/Linux version/.test(stdout)) return { acceleration: "kvm", why: "a kernel spoke under KVM" };
  const said = stderr.trim().split("\n")[0];
  return { acceleration: "tcg", why: said || `no kernel spoke under KVM within ${proofSeconds} s` };
}
