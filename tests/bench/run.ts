// Measurements, each by its name: `npm run bench -- systems [<stack> …]`, `… images [<rounds>]`, `… amis [<rounds>]`,
// `… recovery [data <GiB> … | loss <kills>]`. They print Markdown on standard output, what is being done on standard error, and hold nothing to a
// time: what a figure must be is said beside it, for whoever reads it.
import { availableParallelism, totalmem } from "node:os";
import { Cancelled } from "../../lib/cancel.ts";
import { amis } from "./amis.ts";
import { images } from "./images.ts";
import { recovery } from "./recovery.ts";
import { systems } from "./systems.ts";

const benches: Record<string, (argv: string[]) => Promise<void>> = { systems, images, amis, recovery };

const bench = benches[process.argv[2] ?? ""];
if (!bench) {
  console.error(`which? npm run bench -- ${Object.keys(benches).join(" | ")}`);
  process.exit(2);
}
const machine = `${availableParallelism()} processors, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}`;
console.log(`${new Date().toISOString().slice(0, 10)}, ${machine}\n`);
try {
  await bench(process.argv.slice(3));
} catch (error) {
  if (!(error instanceof Cancelled)) throw error;
  console.error("stopped");
  process.exitCode = 130;
}
