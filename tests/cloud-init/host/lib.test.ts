// What the actions share, and what the activator refuses, against temporary folders. No root, no machine.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { suite } from "../../suite.ts";
import { generation, type HandWritten, hostFolder, step } from "./machine.ts";

const test = suite("lib");
const folder = realpathSync(mkdtempSync(join(tmpdir(), "ingot-lib-")));
test.after(() => rmSync(folder, { recursive: true }));

/** Runs a line of shell as an action would; `$1` is the verb, `$2` onwards the arguments. */
const shell = (line: string, ...args: string[]) =>
  spawnSync("dash", ["-c", `. "$INGOT/actions/lib.sh"; ${line}`, "action", "apply", ...args], {
    env: { ...process.env, INGOT: hostFolder },
    encoding: "utf8",
  });

test("enter makes the missing folders and follows no symlink", () => {
  mkdirSync(join(folder, "real/inner"), { recursive: true });
  symlinkSync(join(folder, "real"), join(folder, "link"));
  const there = shell('enter "$2" create; pwd -P', join(folder, "real/inner/a/b"));
  assert.is(there.stdout.trim(), join(folder, "real/inner/a/b"), there.stderr);
  const linked = shell('enter "$2" create', join(folder, "link/inner/c"));
  assert.is(linked.status, 99);
  assert.match(linked.stderr, /link is a symlink; Ingot follows none here/);
  assert.not.ok(existsSync(join(folder, "real/inner/c")));
  symlinkSync("/nowhere", join(folder, "dangling"));
  assert.match(shell('enter "$2" create', join(folder, "dangling/x")).stderr, /is a symlink/);
  assert.match(shell('enter "$2"', `${folder}/real/../real`).stderr, /not a plain path/);
  assert.is(shell('enter "$2" || echo missing', join(folder, "not/there")).stdout.trim(), "missing");
});

test("a probe that stumbles means work; only fail() means failed", () => {
  const probe = (line: string) =>
    spawnSync("dash", ["-c", `. "$INGOT/actions/lib.sh"; ${line}`, "action", "probe"], { env: { ...process.env, INGOT: hostFolder } })
      .status;
  assert.is(probe("true"), 0);
  assert.is(probe("cmp -s /etc/passwd /not/there"), 1);
  assert.is(probe("sh -c 'exit 7'"), 1);
  assert.is(probe("fail no"), 99);
});

test("a service that ends right after its start has failed", () => {
  // What systemd says is played: no real service can be made to look so on purpose.
  const bin = join(folder, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "systemctl"), '#!/bin/sh\necho "LoadState=loaded\nType=notify\nNRestarts=0\nActiveState=inactive"\n', {
    mode: 0o755,
  });
  const ended = spawnSync("dash", ["-c", '. "$INGOT/actions/lib.sh"; service_look ssh; service_up ssh', "action", "apply"], {
    env: { ...process.env, INGOT: hostFolder, PATH: `${bin}:${process.env.PATH}` },
    encoding: "utf8",
  });
  assert.is(ended.status, 99);
  assert.match(ended.stderr, /ssh has ended right after its start/);
});

test("the hash of inputs counts contents and where links lead", () => {
  const file = join(folder, "input");
  const hash = () => shell('hash_of "$2" "$3"', file, join(folder, "current")).stdout;
  mkdirSync(join(folder, "one"));
  mkdirSync(join(folder, "two"));
  writeFileSync(file, "a");
  symlinkSync(join(folder, "one"), join(folder, "current"));
  const first = hash();
  assert.match(first, /^[0-9a-f]{64}/);
  assert.is(hash(), first);
  writeFileSync(file, "b");
  const second = hash();
  assert.is.not(second, first);
  rmSync(join(folder, "current"));
  symlinkSync(join(folder, "two"), join(folder, "current"));
  assert.is.not(hash(), second);
  assert.match(shell('hash_of "$2"', join(folder, "gone")).stderr, /an input is missing/);
});

/** What activate says of a generation that lies in a temporary folder. */
function load(written: HandWritten, change?: (folder: string) => void): string {
  const state = mkdtempSync(join(folder, "state-"));
  const { digest, contents } = generation(written);
  const there = join(state, "generations", digest);
  mkdirSync(join(there, "files"), { recursive: true });
  for (const [name, content] of Object.entries(contents)) writeFileSync(join(there, name), content);
  change?.(there);
  const python = `
import importlib.machinery, importlib.util, sys
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("activate", sys.argv[1])
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("activate", loader))
loader.exec_module(module)
module.STATE = sys.argv[2]
try:
    print("fine:", len(module.load(sys.argv[3])["steps"]), " ".join(module.escape(s["id"]) for s in module.load(sys.argv[3])["steps"]))
except module.Refused as error:
    print(error)
`;
  const { stdout, stderr } = spawnSync("/usr/bin/python3", ["-", join(hostFolder, "activate"), state, digest], {
    input: python,
    encoding: "utf8",
  });
  assert.is(stderr, "");
  return stdout.trim();
}

test("a generation is loaded when everything is what its hash says", () => {
  const steps = [step("directory//srv", "directory", {}), step("user/a-b", "user", {}, { after: ["directory//srv"] })];
  assert.is(load({ steps, files: { "/etc/x": { content: "x" } } }), "fine: 2 directory--srv user-a\\x2db");
});

test("a generation is refused with every reason at once", () => {
  const files = { "/etc/x": { content: "x" }, "/etc/y": { content: "y" } };
  const changed = load({ steps: [], files }, (there) => {
    for (const [name, content] of Object.entries(generation({ steps: [], files }).contents)) {
      if (content === "x") writeFileSync(join(there, name), "z");
      if (content === "y") rmSync(join(there, name));
    }
  });
  assert.match(changed, /\(for \/etc\/x\) differs from its name: its sha256 is [0-9a-f]{64}/);
  assert.match(changed, /\(for \/etc\/y\): No such file/);
  assert.match(
    load({ steps: [] }, (there) => writeFileSync(join(there, "plan.json"), "{}")),
    /plan.json differs from its digest/,
  );
  const steps = [
    step("a/a", "directory", {}, { after: ["b/b"] }),
    step("b/b", "directory", {}, { after: ["a/a"] }),
    step("c/c", "lib", {}, { after: ["d/d"] }),
  ];
  const wrong = load({ steps });
  assert.match(wrong, /steps wait for each other: a\/a, b\/b/);
  assert.match(wrong, /step c\/c: this image has no action 'lib'/);
  assert.match(wrong, /step c\/c is after d\/d, which is not in the plan/);
});

test.run();
