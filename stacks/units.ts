// Which units of a machine are a resource's: those that its steps start, and those that it writes. For `ingot logs` and `ingot doctor`.
import type { Generation } from "../cloud-init/plan.ts";

const unitFile = /^\/etc\/systemd\/system\/([^/]+\.(?:service|mount))(?:\.d\/.*)?$/;

/** Units that are written come first: where two resources have a part in one, the last one named starts it. */
export const unitsOf = ({ steps, files }: Generation): { unit: string; resource: string }[] => [
  ...files.flatMap(({ path, resource }) => {
    const unit = unitFile.exec(path)?.[1];
    return unit === undefined ? [] : [{ unit, resource }];
  }),
  // Of a step its own unit, and the one that is the server where that one only stands for it.
  ...steps.flatMap(({ args, resource }) =>
    [args.unit, args.instance].flatMap((unit) => (unit === undefined ? [] : [{ unit: String(unit), resource }])),
  ),
];
