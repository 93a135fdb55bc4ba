// The one privileged call of a build: a script as root, in namespaces of its own, on a leash.
import { join } from "node:path";
import { toolFolder } from "../lib/paths.ts";
import { asRoot, run } from "../lib/run.ts";

/**
 * Runs a script by images/provision/bake.sh, with nothing in its environment but this.
 * @param script below images/
 * @throws RunError
 */
export async function provision(script: string, values: Record<string, string | number>, onLine: (line: string) => void): Promise<void> {
  const environment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...values };
  const argv = ["env", "--ignore-environment", ...Object.entries(environment).map(([k, v]) => `${k}=${v}`)];
  const scripts = ["images/provision/bake.sh", join("images", script)].map((path) => join(toolFolder, path));
  await run(asRoot([...argv, "sh", ...scripts]), { leash: true, onLine });
}
