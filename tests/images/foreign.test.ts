import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as assert from "uvu/assert";
import { assertRuns } from "../../images/foreign.ts";
import { MissingError } from "../../lib/diagnostics.ts";
import { suite } from "../suite.ts";

const test = suite("another architecture");

test("what this computer is, it runs; another is run by QEMU where the kernel was told so, else it is said what is missing", () => {
  const kernel = mkdtempSync(join(tmpdir(), "ingot-binfmt-"));
  const refused = (): string => {
    try {
      assertRuns("arm64", kernel, "x64");
      return "";
    } catch (error) {
      assert.instance(error, MissingError);
      return `${(error as Error).message} | ${(error as MissingError).mend}`;
    }
  };
  try {
    assertRuns("amd64", kernel, "x64");
    assertRuns("arm64", kernel, "arm64");
    assert.is(
      refused(),
      "this computer cannot run the programs of arm64, and a bake runs those of its packages | apt-get install qemu-user-static binfmt-support",
    );
    writeFileSync(join(kernel, "qemu-aarch64"), "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OC\noffset 0\n");
    assert.match(refused(), /lacks the flag F/);
    writeFileSync(join(kernel, "qemu-aarch64"), "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n");
    assert.is(refused(), "");
  } finally {
    rmSync(kernel, { recursive: true });
  }
});

test.run();
