// What of its packages an image is made without (`leave_out:` in a recipe), in the words of dpkg. The image keeps the file, so that what is
// installed later stays as lean.
import type { TreeFile } from "./files.ts";

interface Part {
  /** The folder that it is in. */
  below: string;
  /** What of it stays: dpkg's patterns below the folder, whose `*` stands for any number of folders, too. */
  except: string[];
}

const parts = {
  man: { below: "/usr/share/man", except: [] },
  info: { below: "/usr/share/info", except: [] },
  lintian: { below: "/usr/share/lintian", except: [] },
  docs: { below: "/usr/share/doc", except: ["*/copyright"] },
  translations: { below: "/usr/share/locale", except: ["locale.alias", "en*"] },
} satisfies Record<string, Part>;

export type LeftOut = keyof typeof parts;
export const leavable = Object.keys(parts) as LeftOut[];

const partsOf = (leftOut: LeftOut[]): Part[] => leavable.filter((name) => leftOut.includes(name)).map((name) => parts[name]);

/** There before the first package is unpacked. */
export function excludes(leftOut: LeftOut[]): TreeFile[] {
  const lines = partsOf(leftOut).flatMap(({ below, except }) => [
    `path-exclude=${below}/*\n`,
    ...except.map((kept) => `path-include=${below}/${kept}\n`),
  ]);
  return lines.length ? [{ path: "/etc/dpkg/dpkg.cfg.d/ingot-excludes", mode: "0644", content: lines.join("") }] : [];
}

/** Whether a file of a package's with this path is left out. Of links dpkg leaves out none that could lead to what stays. */
export function isLeftOut(leftOut: LeftOut[], path: string): boolean {
  return partsOf(leftOut).some(
    ({ below, except }) => path.startsWith(`${below}/`) && !except.some((kept) => matches(`${below}/${kept}`, path)),
  );
}

const matches = (pattern: string, path: string): boolean =>
  new RegExp(`^${pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*")}$`, "s").test(path);
