// What commands say of machines that are not there.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { notUp } from "../../scripts/machines.ts";
import { temporaryProject } from "../images/fixtures.ts";
import { suite } from "../suite.ts";

const test = suite("machines");

test("a stack that is not up is launched, or is up on the other target", () => {
  const { project, remove } = temporaryProject();
  try {
    assert.equal(notUp({ project, on: "container" }), {
      message: "nothing is up",
      hint: "launch a stack: ingot up <stack>",
      elsewhere: false,
    });
    const folder = join(project.machines, "shop/web");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "machine.json"), JSON.stringify({ stack: "shop", host: "web", target: "vm" }));
    const there = { hint: "shop is up on vm: add `--on vm`", elsewhere: true };
    assert.equal(notUp({ project, on: "container" }), { message: "nothing is up on container", ...there });
    assert.equal(notUp({ project, on: "container" }, "shop"), { message: "shop is not up on container", ...there });
    assert.equal(notUp({ project, on: "vm" }, "shop").hint, "launch it: ingot up shop");
    assert.equal(notUp({ project, on: "container" }, "other").hint, "launch it: ingot up other");
  } finally {
    remove();
  }
});

test.run();
