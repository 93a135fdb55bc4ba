// Quoting is held to the real thing where it runs here (sh, systemd-escape, systemd-analyze), else to a reader written from its manual.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import * as assert from "uvu/assert";
import {
  exportsPath,
  nginx,
  postgresqlSetting,
  QuoteError,
  shell,
  splitCommand,
  unitEnvironment,
  unitName,
  unitPath,
  unitWord,
} from "../../lib/quote.ts";
import { suite } from "../suite.ts";

const test = suite("quote");
fc.configureGlobal({ includeErrorInReport: true });

const special = [
  "",
  " ",
  "a b",
  "'",
  '"',
  "\\",
  "\\n",
  "$",
  "$HOME",
  "$$",
  `$${"{A}"}`,
  "%",
  "%n",
  "%%",
  "`id`",
  "$(id)",
  ";",
  "&&",
  "|",
  "*",
  "?",
  "~",
  "#",
  "!",
  "-n",
  "--",
  "=",
  "a=b",
  "\t",
  "{a,b}",
  "[a]",
  "<",
  ">",
  "(",
  ")",
  "é",
  "😀",
  "\u007f",
  "\u001b",
  ",",
  ":",
  "@",
  "+",
  "^",
];
const piece = fc.oneof(
  fc.constantFrom(...special),
  fc.string({ unit: "binary", maxLength: 6 }).map((s) => s.replaceAll("\0", "")),
);
const anything = fc.array(piece, { maxLength: 5 }).map((parts) => parts.join(""));
const oneLine = anything.map((s) => s.replace(/[\n\r]/g, ""));

/** Runs a program that is there on every Debian; undefined where it is not. */
const there = (program: string): boolean => spawnSync(program, ["--version"]).error === undefined;

// --- Shell ------------------------------------------------------------------------------------------------------------------

for (const interpreter of ["sh", "bash"]) {
  test(`a shell word is one word, and itself, to ${interpreter}`, () => {
    const words = [...special, "a\nb", "\n", ...fc.sample(anything, 300)];
    const { stdout, stderr } = spawnSync(interpreter, ["-c", `printf '%s\\0' ${words.map(shell).join(" ")}`], { encoding: "utf8" });
    assert.is(stderr, "");
    assert.equal(stdout.split("\0").slice(0, -1), words);
  });
}

test("a shell word that needs no quotes has none", () => {
  for (const word of ["a", "/srv/a-b_c.d", "A=1", "a@b:c,d+e%f"]) assert.is(shell(word), word);
  assert.is(shell(""), "''");
  assert.is(shell("~"), "'~'");
});

test("a tilde or an equals sign at the front is no surprise", () =>
  assert.is(
    spawnSync("sh", ["-c", `printf '%s|' ${["~root", "=ls", "a=~"].map(shell).join(" ")}`], { encoding: "utf8" }).stdout,
    "~root|=ls|a=~|",
  ));

// --- systemd ----------------------------------------------------------------------------------------------------------------

/**
 * Reads a command line or list of a unit as systemd does: systemd.syntax(7), "Quoting" (quotes begin a word only, C escapes),
 * systemd.unit(5), "Specifiers", systemd.service(5), "Command lines" (`$$`). Throws for what would be expanded.
 */
function readUnit(line: string, dollars: boolean): string[] {
  const words: string[] = [];
  let i = 0;
  while (i < line.length) {
    while (/\s/.test(line[i] ?? "")) i++;
    if (i >= line.length) break;
    let word = "";
    const quote = line[i] === '"' || line[i] === "'" ? line[i++] : undefined;
    for (; ; i++) {
      const c = line[i];
      if (c === undefined) {
        if (quote) throw new Error("the quote is not closed");
        break;
      }
      if (quote ? c === quote : /\s/.test(c)) break;
      if (!quote && (c === '"' || c === "'")) throw new Error(`a quote in the middle of a word: ${line}`);
      if (c === "\\") {
        const next = line[++i];
        if (next === undefined || !/["'\\]/.test(next)) throw new Error(`an escape: \\${next}`);
        word += next;
      } else if (c === "%") {
        if (line[++i] !== "%") throw new Error(`a specifier: %${line[i]}`);
        word += "%";
      } else if (c === "$" && dollars) {
        if (line[++i] !== "$") throw new Error(`a variable: $${line[i]}`);
        word += "$";
      } else word += c;
    }
    if (quote) i++;
    words.push(word);
  }
  return words;
}

test("words of a unit's command line are themselves: no specifier, no variable, no escape", () => {
  fc.assert(
    fc.property(fc.array(oneLine, { minLength: 1, maxLength: 4 }), (words) =>
      assert.equal(readUnit(words.map(unitWord).join(" "), true), words),
    ),
  );
});

test("a word that systemd takes for a separator of commands is quoted", () => assert.is(unitWord(";"), '";"'));

test("a word that begins like one of ExecStart='s prefixes is said as it is", () => {
  // Prefixes count at the first word only: a command never begins with one (model: ING1408 or the program is not found).
  assert.is(unitWord("--flag=a b"), '"--flag=a b"');
});

test("an assignment of a unit's environment is one, with its value as it is", () => {
  fc.assert(fc.property(oneLine, (value) => assert.equal(readUnit(unitEnvironment("NAME", value), false), [`NAME=${value}`])));
});

test("paths of a list are themselves", () => {
  const path = oneLine.map((s) => `/${s}`);
  fc.assert(fc.property(fc.array(path, { minLength: 1 }), (paths) => assert.equal(readUnit(paths.map(unitPath).join(" "), false), paths)));
});

test("a list's paths may have a `-` before them, inside the quotes", () => {
  assert.is(`-${unitPath("/srv/a")}`, "-/srv/a");
  assert.equal(readUnit(unitPath("-/srv/a b"), false), ["-/srv/a b"]);
});

test("systemd reads a unit with all of it, and has nothing to say", () => {
  if (!there("systemd-analyze")) return;
  const folder = mkdtempSync(join(tmpdir(), "ingot-quote-"));
  try {
    const words = [...special, ...fc.sample(oneLine, 100)].map((w) => w.replace(/[^\t -~]/g, ""));
    writeFileSync(
      join(folder, "quote.service"),
      [
        "[Service]",
        `ExecStart=/bin/echo ${words.map(unitWord).join(" ")}`,
        ...words.map((w, i) => `Environment=${unitEnvironment(`N${i}`, w)}`),
        `ReadWritePaths=${words
          .filter((w) => !w.includes("..") && !w.includes("\t"))
          .map((w) => unitPath(`-/${w}`))
          .join(" ")}`,
        "",
      ].join("\n"),
    );
    const { status, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", "--generators=no", join(folder, "quote.service")], {
      encoding: "utf8",
      env: { ...process.env, XDG_RUNTIME_DIR: folder, SYSTEMD_UNIT_PATH: `${folder}:` },
    });
    assert.is(stderr, "");
    assert.is(status, 0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the name of a path's unit is systemd-escape's", () => {
  if (!there("systemd-escape")) return;
  const part = fc
    .oneof(
      fc.constantFrom("a", ".a", "..a", "a.b", "a-b", "a b", "a\\b", "é", "😀", "a:b", "_", "@", "~", "-"),
      fc.string({ minLength: 1, maxLength: 5, unit: "binary" }),
    )
    .map((s) => s.replace(/[\0/]/g, "") || "x")
    .filter((s) => s !== "." && s !== "..");
  const paths = [
    "/",
    "/srv",
    "/var/lib/postgresql",
    ...fc.sample(
      fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => `/${parts.join("/")}`),
      200,
    ),
  ];
  const { stdout, stderr } = spawnSync("systemd-escape", ["--path", ...paths], { encoding: "utf8" });
  assert.is(stderr, "");
  assert.equal(paths.map(unitName).join(" "), stdout.trimEnd());
});

test("slashes too many make no other name", () => {
  assert.is(unitName("//srv///data/"), "srv-data");
  assert.is(unitName("/"), "-");
});

// --- nginx, PostgreSQL ------------------------------------------------------------------------------------------------------

/** Reads parameters as ngx_conf_read_token() does: quotes at a word's begin, `\` before a quote or itself is taken away. */
function readNginx(line: string): string[] {
  const words: string[] = [];
  for (let i = 0; i < line.length; i++) {
    if (line[i] === " ") continue;
    const quote = line[i] === '"' ? line[i++] : undefined;
    let word = "";
    for (; i < line.length && (quote ? line[i] !== quote : !/[ ;{]/.test(line[i] ?? "")); i++) {
      if (line[i] === "\\" && /["'\\ ;]/.test(line[i + 1] ?? "")) i++;
      else if (line[i] === "\\" && /[trn]/.test(line[i + 1] ?? "")) throw new Error("an escape");
      word += line[i];
    }
    if (quote && line[i] !== quote) throw new Error("the quote is not closed");
    words.push(word);
  }
  return words;
}

test("parameters of nginx are themselves", () => {
  const word = oneLine.map((s) => s.replaceAll("$", ""));
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 3 }), (words) => assert.equal(readNginx(words.map(nginx).join(" ")), words)),
  );
});

test("a variable of nginx cannot be written by accident", () => {
  assert.throws(
    () => nginx("/srv/$host"),
    (e: Error) => e instanceof QuoteError && /nginx's configuration cannot hold the character "\$"/.test(e.message),
  );
});

/** Reads a setting as guc-file.l does: '' is a quote, `\` begins C's escapes. */
function readSetting(text: string): string {
  assert.ok(text.startsWith("'") && text.endsWith("'"));
  return text.slice(1, -1).replace(/''|\\(.)/gs, (all, c: string | undefined) => {
    if (all === "''") return "'";
    if (c !== "\\") throw new Error(`an escape: \\${c}`);
    return "\\";
  });
}

test("a setting of PostgreSQL is itself", () => {
  fc.assert(fc.property(oneLine, (value) => assert.is(readSetting(postgresqlSetting(value)), value)));
  assert.is(postgresqlSetting(true), "on");
  assert.is(postgresqlSetting(false), "off");
  assert.is(postgresqlSetting(0.5), "0.5");
});

// --- Commands ---------------------------------------------------------------------------------------------------------------

test("a command is split as a shell would split it", () => {
  const words = fc.array(
    fc.oneof(
      fc.constantFrom("a", "--b=c", "d:e", "1,2", "", "a b", "$x", "x;y", "\\", '"', "é", "*"),
      fc.string({ maxLength: 6 }).map((s) => s.replaceAll("\0", "")),
    ),
    { minLength: 1, maxLength: 5 },
  );
  const samples = [...fc.sample(words, 200)].map((w) => w.filter((x) => !x.includes("'")));
  // In one call of the shell: each command's words, then an empty line of its own kind.
  const script = samples.map((w) => `printf '%s\\0' ${w.map(shell).join(" ")} END`).join("\n");
  const { stdout } = spawnSync("sh", ["-c", script], { encoding: "utf8" });
  assert.equal(
    samples.flatMap((w) => [...splitCommand(w.map(shell).join(" ")), "END"]),
    stdout.split("\0").slice(0, -1),
  );
});

test("the words of a command come back from their quoted form", () => {
  fc.assert(
    fc.property(
      fc.array(
        anything.map((s) => s.replaceAll("'", "")),
        { maxLength: 5 },
      ),
      (words) => assert.equal(splitCommand(words.map(shell).join("  ")), words),
    ),
  );
});

for (const [command, words] of [
  ["", []],
  ["   ", []],
  ["a", ["a"]],
  ["a 'b c' \"d e\"", ["a", "b c", "d e"]],
  ["a'b'\"c\"d", ["abcd"]],
  ["a ''", ["a", ""]],
  ["manage.py run --name=x:y,z", ["manage.py", "run", "--name=x:y,z"]],
  ['sh -c "a | b"', ["sh", "-c", "a | b"]],
] as const)
  test(`split: ${command || "nothing"}`, () => assert.equal(splitCommand(command), [...words]));

for (const command of ["a | b", "a && b", "a; b", "a > b", "a $B", "a `b`", "a *.py", "a ~", "a b\\ c", "a {b,c}", "a # b", "(a)", "a !b"])
  test(`only a shell could: ${command}`, () =>
    assert.throws(
      () => splitCommand(command),
      (e: Error) => e instanceof QuoteError && /means something to a shell/.test(e.message),
    ));

test("what is quoted is itself, in double quotes too", () => {
  assert.equal(splitCommand(`sh -c "echo $HOME" '$HOME' "\\d"`), ["sh", "-c", "echo $HOME", "$HOME", "\\d"]);
});

for (const command of ['echo "a\\"b"', 'echo "\\$HOME"', 'echo "a\\\\b"', 'echo "a\\"'])
  test(`a backslash that a shell would take away is refused: ${command}`, () =>
    assert.throws(
      () => splitCommand(command),
      (e: Error) => e instanceof QuoteError && /use single quotes/.test(e.message),
    ));

test("a quote that is not closed", () => assert.throws(() => splitCommand("echo 'a"), /the quote ' is not closed/));

// --- What cannot be said ----------------------------------------------------------------------------------------------------

test("what a language cannot hold is refused by its name, never cut off", () => {
  for (const [quoteIt, value, message] of [
    [shell, "a\0b", /a shell word cannot hold/],
    [unitWord, "a\nb", /a unit's command line cannot hold the character "\\n"/],
    [(v: string) => unitEnvironment("A", v), "a\nb", /Environment=/],
    [unitPath, "a\nb", /a unit's path/],
    [nginx, "a\nb", /nginx/],
    [postgresqlSetting, "a\nb", /postgresql\.conf/],
  ] as const)
    assert.throws(
      () => quoteIt(value),
      (e: Error) => e instanceof QuoteError && message.test(e.message),
    );
});

test("a path in exports(5) is read back as it is: one word, bytes in octal", () => {
  assert.is(exportsPath("/srv/media"), "/srv/media");
  const path = fc.oneof(fc.constantFrom(...special), fc.string({ unit: "grapheme" })).filter((s) => !/[\0\n\r]/.test(s));
  fc.assert(
    fc.property(path, (text) => {
      const written = exportsPath(text);
      assert.not.match(written, /[\s#"]/);
      const bytes = [...written.matchAll(/\\([0-7]{3})|(.)/gs)].map(([, octal, plain]) =>
        octal === undefined ? (plain ?? "").charCodeAt(0) : Number.parseInt(octal, 8),
      );
      assert.is(Buffer.from(bytes).toString(), text);
    }),
  );
  assert.throws(
    () => exportsPath("a\nb"),
    (error: unknown) => error instanceof QuoteError,
  );
});

test.run();
