// Archives of Docker images that lie beside a stack: whether each is the one that the stack means.
import { type Diagnostic, diagnostic } from "../lib/diagnostics.ts";
import { sha256File } from "../lib/digest.ts";
import { inStackFolder } from "./kind.ts";
import type { StackModel } from "./model.ts";
import { docker } from "./resources/docker.ts";

/** They may be large, so this is asked before a launch or an apply, and not by every `validate`. Code ING1436. */
export async function otherArchives({ hosts, yaml }: StackModel): Promise<Diagnostic[]> {
  const found: Diagnostic[] = [];
  for (const host of hosts)
    for (const [name, { archive, sha256 }] of Object.entries(host.get(docker)?.value.images ?? {})) {
      const seen = await sha256File(inStackFolder(host, archive));
      if (seen === sha256) continue;
      found.push(
        diagnostic("ING1436", yaml.rangeOf([...host.path, "docker", "images", name, "sha256"]), `${archive} has another sha256: ${seen}`, {
          hint: "it is not the file that was meant; if it is, write its sha256 here",
        }),
      );
    }
  return found;
}
