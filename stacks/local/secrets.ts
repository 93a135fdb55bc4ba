// The secrets' store on this computer: `.ingot/secrets/<stack>/<name>`, a file for each, 0600 in folders that are 0700.
import { chmodSync, existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Project } from "../../lib/paths.ts";
import type { SecretStore } from "../secrets.ts";

export function localSecrets(project: Project): SecretStore {
  const fileOf = (stack: string, name: string) => join(project.secrets, stack, name);
  return {
    placeOf: fileOf,
    async get(stack, name) {
      const file = fileOf(stack, name);
      if (!existsSync(file)) return undefined;
      chmodSync(file, 0o600);
      const value = readFileSync(file, "utf8");
      // What a person wrote with an editor ends with a newline that is no part of it; keys keep theirs.
      return value.includes("-----BEGIN") ? value : value.replace(/\n$/, "");
    },
    async create(stack, name, value) {
      const file = fileOf(stack, name);
      mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
      const temporary = `${file}.${process.pid}.tmp`;
      writeFileSync(temporary, value, { mode: 0o600 });
      // link() fails when somebody was faster: then theirs counts, and nothing is ever overwritten.
      try {
        linkSync(temporary, file);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      } finally {
        rmSync(temporary);
      }
      return (await this.get(stack, name)) ?? value;
    },
  };
}
