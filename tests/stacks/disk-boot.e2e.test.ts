// The bootable disks of Debian 12 and 13 in QEMU, by UEFI and by BIOS, as a machine of EC2's would find it: an NVMe disk larger than the image, and
// cloud-init's seed. In the long suite: a first boot without KVM takes minutes. `npm run test:long` installs QEMU.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import * as assert from "uvu/assert";
import { type Disk, makeDisk } from "../../images/disk.ts";
import { firmwares } from "../../images/disk-boots.ts";
import { projectAt, toolFolder } from "../../lib/paths.ts";
import { silent } from "../../lib/progress.ts";
import { run, tryRun } from "../../lib/run.ts";
import { accelerationOf, ovmf, qemu, qemuArguments } from "../../stacks/local/qemu.ts";
import { suite } from "../suite.ts";

const test = suite("boot of the disk");
const long = process.env.INGOT_TEST_LONG ? test : test.skip;
const project = projectAt(toolFolder);
const images = ["debian-12", "debian-13"];
let folder: string;

test.before(async () => {
  if (!process.env.INGOT_TEST_LONG) return;
  folder = mkdtempSync("/var/tmp/ingot-boot-");
});
test.after(() => {
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Says on the console what the test asks for, once everything that boot starts has had its turn, and powers off. */
const userData = `#cloud-config
${JSON.stringify({
  runcmd: [
    [
      "sh",
      "-c",
      // In one piece and on lines of its own, whoever else writes to the console.
      `said=$(echo "FIRMWARE $(test -d /sys/firmware/efi && echo uefi || echo bios)"
         echo "ROOT $(findmnt -no SOURCE,SIZE --bytes /)"
         echo "FAILED $(systemctl --failed --plain --no-legend | tr '\\n' ' ')."
         echo "ID $(wc -c </etc/machine-id)"
         echo "MODULES $(ls /sys/bus/pci/drivers | tr '\\n' ' ')")
       printf '\\n%s\\n' "$said" >/dev/ttyS0
       # Beside this the console's login prompt is on its way.
       sleep 20
       systemctl poweroff`,
    ],
  ],
})}
`;

/** Boots, and gives what came on the console until it powered itself off. */
async function boot(firmware: (typeof firmwares)[number], from: Disk): Promise<string> {
  const { acceleration } = await accelerationOf(project, join(from.image.root, "vmlinuz"));
  const own = join(folder, `${from.image.name}-${firmware}`);
  mkdirSync(join(own, "seed"), { recursive: true });
  writeFileSync(join(own, "seed/user-data"), userData);
  writeFileSync(join(own, "seed/meta-data"), JSON.stringify({ "instance-id": `boot-${firmware}`, "local-hostname": "boots" }));
  cpSync(ovmf.variables, join(own, "variables.fd"));
  await run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", from.path, "-F", from.format, join(own, "root.qcow2"), "8G"]);
  const machine = { name: "boots", acceleration, firmware, memory: 2 ** 30, cpus: 1, volumes: [], seed: "seed", ports: 0 } as const;
  const { code, stderr } = await tryRun([qemu, ...qemuArguments({ ...machine, volumes: [] })], { cwd: own, timeoutSeconds: 900 });
  const console = readFileSync(join(own, "console.log"), "utf8");
  assert.is(code, 0, `${stderr}\n${console.slice(-3000)}`);
  // Debian 13's agetty sets the terminal up before it asks who is there.
  return stripVTControlCharacters(console).replaceAll("\r", "");
}

for (const name of images)
  for (const firmware of firmwares)
    long(`${name} boots by ${firmware}, its root grows to its disk, and nothing fails`, async () => {
      // Each firmware boots another form of it.
      const disk = await makeDisk(project, name, firmware === "uefi" ? "raw" : "qcow2", { progress: silent });
      const said = await boot(firmware, disk);
      assert.match(said, new RegExp(`^FIRMWARE ${firmware}$`, "m"), said.slice(-3000));
      const [, device, size] = /^ROOT (\S+)\s+(\d+)$/m.exec(said) ?? [];
      assert.is(device, "/dev/nvme0n1p1");
      assert.ok(Number(size) > 7.5e9, `the root has ${size} bytes`);
      assert.match(said, /^FAILED \.$/m);
      assert.match(said, /^ID 33$/m);
      assert.match(said, /^boots login:/m);
      assert.not.match(said, /^.*(EXT4-fs error|Kernel panic).*$/m);
    });

test.run();
