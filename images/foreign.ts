// Images of another architecture than this computer's: their packages' scripts are that one's programs, which the kernel hands to QEMU where it
// has been told to (binfmt_misc). Called by images/bake.ts before anything is made.
import { existsSync, readFileSync } from "node:fs";
import { MissingError } from "../lib/diagnostics.ts";
import type { Architecture } from "./distro.ts";

const own: Partial<Record<string, Architecture>> = { x64: "amd64", arm64: "arm64" };
const qemu: Record<Architecture, string> = { amd64: "qemu-x86_64", arm64: "qemu-aarch64" };

/**
 * @param kernel where the kernel says which programs it hands to whom
 * @throws MissingError when programs of this architecture cannot be run here
 */
export function assertRuns(architecture: Architecture, kernel = "/proc/sys/fs/binfmt_misc", computer: string = process.arch): void {
  if (own[computer] === architecture) return;
  const entry = `${kernel}/${qemu[architecture]}`;
  const said = existsSync(entry) ? readFileSync(entry, "utf8") : "";
  // F: QEMU was opened when it was registered, and so is found from inside of a tree that has none.
  if (/^enabled$/m.test(said) && /^flags: .*F/m.test(said)) return;
  throw new MissingError(
    said
      ? `the kernel runs ${architecture}'s programs by a QEMU that the image has not: ${entry} lacks the flag F`
      : `this computer cannot run the programs of ${architecture}, and a bake runs those of its packages`,
    "apt-get install qemu-user-static binfmt-support",
  );
}
