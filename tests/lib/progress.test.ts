// What long work shows: a line per step where it is read later, a live list on a terminal.
import { PassThrough } from "node:stream";
import * as assert from "uvu/assert";
import { during, progressOn, silent } from "../../lib/progress.ts";
import { suite } from "../suite.ts";

const test = suite("progress");

function stream(terminal: boolean, columns = 80): { out: NodeJS.WriteStream; text: () => string } {
  const out = Object.assign(new PassThrough(), { isTTY: terminal, columns }) as unknown as NodeJS.WriteStream;
  let text = "";
  out.on("data", (chunk: Buffer) => (text += chunk.toString()));
  return { out, text: () => text };
}
const plain = (text: string): string => text.replace(/\(\d+\.\d s\)/g, "(N s)");
/** What is left on the screen: cursor movements followed. */
function screen(text: string): string[] {
  const lines: string[] = [""];
  const esc = String.fromCharCode(27);
  for (const [, up, letter, chars] of text.matchAll(new RegExp(`${esc}\\[(\\d*)(?:;\\d+)*([A-Za-z])|([^${esc}]+)`, "g"))) {
    if (letter === "A") lines.splice(lines.length - 1 - Number(up), Number(up) + 1, "");
    else if (chars !== undefined)
      for (const [i, piece] of chars.split("\n").entries()) {
        if (i) lines.push("");
        lines[lines.length - 1] += piece;
      }
  }
  return lines.map(plain);
}

test("where nobody watches: one line for each end, with what was noted last and the seconds", () => {
  const { out, text } = stream(false);
  const progress = progressOn(out);
  progress.say("baking debian-12");
  const task = progress.start("packages");
  assert.is(text(), "baking debian-12\n", "nothing is said before its end");
  task.note("1 of 2");
  task.note("2 of 2");
  task.done();
  progress.start("layers").done("3 layers");
  progress.start("disk").failed("no space");
  progress.start("quiet").done();
  assert.is(
    plain(text()),
    "baking debian-12\n  done   packages: 2 of 2 (N s)\n  done   layers: 3 layers (N s)\n  FAILED disk: no space (N s)\n  done   quiet (N s)\n",
  );
});

test("where nobody watches there are no colours and no cursor movements", () => {
  const { out, text } = stream(false);
  progressOn(out).start("x").done();
  assert.not.ok(text().includes(String.fromCharCode(27)));
});

test("a task that throws has failed, and the error goes on", async () => {
  const { out, text } = stream(false);
  const error = await during(progressOn(out), "work", async (task) => {
    task.note("half");
    throw new Error("broken");
  }).catch((e: unknown) => e);
  assert.is((error as Error).message, "broken");
  assert.is(plain(text()), "  FAILED work: half (N s)\n");
  assert.is(await during(progressOn(out), "more", async () => 7), 7);
});

test("on a terminal what is done stays above what runs", () => {
  const { out, text } = stream(true);
  const progress = progressOn(out);
  const a = progress.start("a");
  const b = progress.start("b");
  progress.say("a word");
  assert.equal(
    screen(text()),
    ["a word", "  ...  a (N s)", "  ...  b (N s)", ""].map((l) => l.replace("...  ", "...      ")),
  );
  b.done("in time");
  assert.equal(screen(text()).slice(0, 2), ["a word", "  done   b: in time (N s)"]);
  a.failed();
  assert.equal(screen(text()), ["a word", "  done   b: in time (N s)", "  FAILED a (N s)", ""]);
});

test("a line is never longer than the terminal, so that it can be drawn over", () => {
  const { out, text } = stream(true, 20);
  progressOn(out).start("x".repeat(100));
  for (const line of screen(text())) assert.ok(line.length < 20, line);
});

test("silence says nothing", async () => assert.is(await during(silent, "x", async () => 1), 1));

test.run();
