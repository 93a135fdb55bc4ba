// TypeScript → dist/: the command line (dist/ingot.js and its chunks), the tests, and the validators that ajv compiles
// ahead of time from the kinds' schemas. Plain JavaScript, because it runs before anything is built. Called by scripts/setup.sh.
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Ajv } from "ajv";
import standaloneModule from "ajv/dist/standalone/index.js";
import { build, transform } from "esbuild";

const standalone = standaloneModule.default;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");
const external = ["esbuild", "zx", "fast-check", "uvu", "uvu/*"];
const common = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  mainFields: ["module", "main"],
  target: "node20",
  format: "esm",
  external,
  logLevel: "warning",
};

/** `import … from "ingot:validators"`: one function for each schema, compiled to plain JavaScript, so that no command loads ajv. */
async function compileValidators() {
  const bundled = join(dist, `.schemas-${process.pid}.mjs`);
  await build({ ...common, entryPoints: ["scripts/schemas.ts"], outfile: bundled, plugins: [virtual("export const validators = {};")] });
  const { schemas } = await import(pathToFileURL(bundled).href).finally(() => rmSync(bundled, { force: true }));
  const names = Object.keys(schemas);
  const ajv = new Ajv({
    allErrors: true,
    useDefaults: true,
    strict: true,
    allowUnionTypes: true,
    strictTypes: false,
    strictRequired: false,
    code: { source: true, esm: true },
  });
  for (const keyword of ["x-ref", "x-value", "x-output", "x-instead", "x-expected"]) ajv.addKeyword({ keyword });
  for (const name of names) ajv.addSchema(schemas[name], name);
  const code = standalone(ajv, Object.fromEntries(names.map((n) => [`${n}Validator`, n])));
  const module = `${code}\nexport const validators = { ${names.map((n) => `${n}: ${n}Validator`).join(", ")} };\n`;
  // Nobody reads it, and every command that loads a stack parses it.
  return (await transform(module, { minify: true, format: "esm" })).code;
}

/** The plugin that gives `source` to whoever imports "ingot:validators". */
function virtual(source) {
  return {
    name: "ingot-validators",
    setup(b) {
      b.onResolve({ filter: /^ingot:validators$/ }, () => ({ path: "validators", namespace: "ingot" }));
      b.onLoad({ filter: /.*/, namespace: "ingot" }, () => ({ contents: source, loader: "js", resolveDir: root }));
    },
  };
}

const validators = virtual(await compileValidators());

const testFiles = (folder) =>
  readdirSync(join(root, folder), { withFileTypes: true }).flatMap((e) =>
    e.isDirectory()
      ? e.name === "apps"
        ? []
        : testFiles(join(folder, e.name))
      : e.name.endsWith(".test.ts")
        ? [join(folder, e.name)]
        : [],
  );

const entries = {
  ingot: "scripts/ingot.ts",
  docs: "scripts/docs.ts",
  test: "tests/run.ts",
  bench: "tests/bench/run.ts",
  // The app of the cdktf CLI.
  cdktf: "stacks/aws/main.ts",
  // ssh's way through SSM.
  tunnel: "stacks/aws/tunnel.ts",
  // Programs of the tests' own.
  "tests/stacks/aws/sdk/launch": "tests/stacks/aws/sdk/launch.ts",
  "tests/ec2/bodies": "tests/ec2/bodies.ts",
  "tests/ec2/builders": "tests/ec2/builders.ts",
  "tests/ec2/front": "tests/ec2/front.ts",
  "tests/ec2/route53": "tests/ec2/route53.ts",
  "tests/ec2/tls": "tests/ec2/tls.ts",
  "tests/bench/ebs-drain": "tests/bench/ebs-drain.ts",
  "tests/bench/ami-upload": "tests/bench/ami-upload.ts",
};
for (const file of testFiles("tests")) entries[file.replace(/\.ts$/, "")] = file;
await build({
  ...common,
  entryPoints: Object.fromEntries(Object.entries(entries).filter(([, file]) => existsSync(join(root, file)))),
  outdir: dist,
  splitting: true,
  chunkNames: "chunks/[name]-[hash]",
  plugins: [validators],
  sourcemap: "linked",
  banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);' },
});
// The constructs for other people's CDKTF apps, which bring cdktf, constructs and the provider's binding themselves: there is one of each.
await build({
  ...common,
  entryPoints: { constructs: "stacks/aws/constructs.ts" },
  outdir: dist,
  external: ["cdktf", "constructs", "@cdktf/provider-aws/*"],
  sourcemap: "linked",
});
// Tests whose sources are gone must not run any more.
for (const file of existsSync(join(dist, "tests")) ? readdirSync(join(dist, "tests"), { recursive: true, encoding: "utf8" }) : []) {
  if (file.endsWith(".test.js") && !existsSync(join(root, "tests", file.replace(/\.js$/, ".ts")))) rmSync(join(dist, "tests", file));
}
const bin = join(dist, "ingot.js");
writeFileSync(bin, `#!/usr/bin/env node\n${readFileSync(bin, "utf8")}`);
chmodSync(bin, 0o755);
