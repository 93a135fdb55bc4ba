// Backups in a folder of the host, on a volume of its own.
import type { Host, Problem } from "../kind.ts";
import { foldersAbove } from "../resources/directory.ts";
import { volumeAt } from "../resources/volume.ts";
import { besideCluster, repositoryConf } from "./pgbackrest.ts";
import type { Kept, Place } from "./place.ts";

export const folderPlace = (path: string, { host, password, cluster }: Kept): Place => ({
  to: path,
  settings: {},
  here: path,
  after: foldersAbove(path, host),
  ...(cluster && {
    pgbackrest: repositoryConf(
      [`# holder: ${path}/holder\n[global]\nrepo1-path=${path}/postgresql\n`],
      { password, keep: cluster.keep },
      besideCluster(cluster.data),
    ),
  }),
  problems: (held) => folderProblems(path, held, host),
});

function folderProblems(path: string, held: { what: string; path: string }[], host: Host): Problem[] {
  const wrong = (message: string, hint: string): Problem => ({ code: "ING1461", path: ["to"], message, hint });
  const own = volumeAt(path, host)?.name;
  if (own === undefined)
    return [wrong(`${path} is on no volume: the backups would go with the machine`, "declare a volume that is mounted there, or above it")];
  const beside = held.find((h) => volumeAt(h.path, host)?.name === own);
  if (!beside) return [];
  return [
    {
      ...wrong(
        `${path} is on the volume ${own}, as ${beside.what} is: one lost disk would take both`,
        "give the backups a volume of their own",
      ),
      related: { id: `volume/${own}`, message: "it is declared here" },
    },
  ];
}
