// The old machine of a host that was rebuilt, as somebody who switches it on again finds it: its root, its disk `data`, and who it was.
import { join } from "node:path";
import { asRoot, run } from "../../lib/run.ts";
import type { TestProject } from "./project.ts";

/** As root, in the folder of the machine, whose power has failed. */
const inFolder = ({ folder }: TestProject, machine: string, script: string) =>
  run(asRoot(["sh", "-euc", `cd "$0" && ${script}`, join(folder, ".ingot/machines", machine)]));
/** A disk of a machine whose power failed is nobody's. */
const detach = (disk: string) => `losetup --associated "${disk}" --noheadings --output NAME | xargs --no-run-if-empty losetup --detach`;

/** Puts it aside before its host is rebuilt; gives the folder. */
export async function putAside(project: TestProject, machine: string): Promise<string> {
  const old = join(project.folder, "old");
  const disk = project.disk(machine, "data");
  await inFolder(
    project,
    machine,
    `mkdir "${old}" && cp -a upper facts seed machine.json "${old}" && ${detach(disk)} && mv "${disk}" "${old}/data.img"`,
  );
  return old;
}

/** Puts it where its successor is, whose power has failed. @param old putAside()'s; the successor's disk is there as new.img afterwards */
export async function bringBack(project: TestProject, machine: string, old: string): Promise<void> {
  const disk = project.disk(machine, "data");
  await inFolder(
    project,
    machine,
    `umount root && rm -rf upper work facts seed && mv "${old}"/upper "${old}"/facts "${old}"/seed "${old}"/machine.json . && mkdir work && ${detach(disk)} && mv "${disk}" "${old}/new.img" && mv "${old}/data.img" "${disk}" && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,volatile ingot root`,
  );
}
