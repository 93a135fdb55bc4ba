// Values full of what means something to somebody on the way, through every boundary at once, on a booted machine: each arrives as it was
// written, and nothing was executed. Which characters a language cannot hold at all is tests/lib/quote.test.ts's.
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import * as assert from "uvu/assert";
import { toolFolder } from "../../lib/paths.ts";
import { tryRun } from "../../lib/run.ts";
import { suite } from "../suite.ts";
import { type TestProject, testProject } from "./project.ts";

const test = suite("quoting");
let project: TestProject;
const on = async (script: string) => {
  const { stdout, stderr } = await project.on("quoting", script);
  return stdout || stderr;
};

/** What would leave a trace if anybody executed it. */
const traces = [
  "$(touch /srv/executed)",
  "`touch /srv/executed`",
  "; touch /srv/executed #",
  '"; touch /srv/executed; "',
  "'; touch /srv/executed; '",
  "| touch /srv/executed",
  "%(touch)s",
  "{{ touch }}",
];
const pieces = [
  "'",
  '"',
  "\\",
  "$",
  `$${"{HOME}"}`,
  "$HOME",
  "%",
  "%n",
  "%%",
  "%(x)s",
  "`",
  ";",
  "#",
  " ",
  "  ",
  "\t",
  "!",
  "&",
  "|",
  "<",
  ">",
  "*",
  "?",
  "~",
  "=",
  ":",
  ",",
  "@(x)",
  "{}",
  "[]",
  "()",
  "é",
  "☃",
  "𝄞",
  "-",
  "--x",
  "a",
  "0",
  "\\n",
  "\\x41",
];
const joined = (extra: string[]) =>
  fc.array(fc.constantFrom(...pieces, ...traces, ...extra), { minLength: 1, maxLength: 12 }).map((p) => p.join(""));
/** The same on every run; another seed finds other ones. */
const seed = Number(process.env.INGOT_TEST_SEED ?? 20261124);
const oneLine = [...traces, "-n", "--help", " leading", "trailing ", "\\", "'", '"', ...fc.sample(joined([]), { seed, numRuns: 16 })];
const lines = [...oneLine, "a\nb", "\n", "end\n", ...fc.sample(joined(["\n"]), { seed, numRuns: 8 })];

/** Secrets are like them, and nowhere else: else the check that finds one in an argument would be right. */
const secrets = lines.map((line) => line.replace(/$/gm, "secret"));

/** A word of a command in the stack: in single quotes, but for those in it. */
const word = (text: string): string => `'${text.replaceAll("'", `'"'"'`)}'`;
const numbered = <T>(prefix: string, values: T[]): Record<string, T> => Object.fromEntries(values.map((v, i) => [`${prefix}${i}`, v]));
// A path holds no control character: the stack is told so.
const path = (text: string): string => `/srv/${text.replaceAll("/", "_").replaceAll("\t", "_").replace(/^\.+$/, "dots")}`;
const targets = oneLine.filter((t) => !t.includes("\t"));
const paths = [...new Set(oneLine.map(path))];

const sayer = `import json, os, sys, time
data = {"argv": sys.argv[2:], "env": {k: v for k, v in os.environ.items() if k[0] in "EVS" and k[1:].isdigit()}, "url": os.environ.get("DATABASE_URL")}
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(data, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
if not sys.argv[1].endswith(("command", "timer")):
    time.sleep(1000000)
`;
const say = (name: string): string => ["python3", "/usr/local/lib/say.py", `/srv/out/${name}`, ...oneLine.map(word)].join(" ");
/** One setting of many such pieces; the empty text between is what PostgreSQL and uWSGI would take for an end. */
const setting = oneLine.join(" ");
const uwsgiSetting = setting.replaceAll(/[$@]\(/g, "").trim();
const headers = oneLine.filter((v) => !v.includes("$") && !/[^\x20-\x7e]/.test(v) && v.trim() === v);

const stack = {
  stack: "quoting",
  hosts: {
    web: {
      image: "kano-konnect",
      users: { clerk: { system: true } },
      directories: { "/srv/out": { owner: "clerk" }, ...Object.fromEntries(paths.map((p) => [p, { owner: "clerk", mode: "0701" }])) },
      files: {
        "/usr/local/lib/say.py": { content: sayer },
        "/srv/content": { content: lines.join("") },
        "/srv/template": {
          content: lines.map((_, i) => `{{ s${i} }}`).join("|"),
          values: numbered(
            "s",
            lines.map((_, i) => ({ secret: `line-${i}` })),
          ),
          mode: "0600",
        },
      },
      links: Object.fromEntries(targets.map((to, i) => [`/srv/link-${i}`, { to }])),
      roles: { weird: { password: { secret: "line-0" } } },
      databases: { weird: { owner: "weird" } },
      postgresql: { settings: { "said.plainly": setting } },
      applications: {
        hello: {
          source: "../tests/apps/hello",
          user: "clerk",
          manage: "manage.py",
          env: {
            ...numbered("V", lines),
            ...numbered(
              "S",
              lines.map((_, i) => ({ secret: `line-${i}` })),
            ),
            DATABASE_URL: { from: "database/weird.url" },
          },
          settings: {
            file: "hello_settings/production.py",
            values: {
              WRITTEN: lines,
              SECRETS: lines.map((_, i) => ({ secret: `line-${i}` })),
              KEYS: Object.fromEntries([...new Set(lines)].map((l) => [l, 1])),
              URL: { from: "database/weird.url" },
            },
          },
        },
      },
      services: { say: { user: "clerk", application: "hello", command: say("service"), env: numbered("E", oneLine) } },
      supervisor: { told: { user: "clerk", application: "hello", command: say("supervisor"), env: numbered("E", oneLine) } },
      timers: { tell: { user: "clerk", application: "hello", command: say("timer"), env: numbered("E", oneLine), every: "1s" } },
      uwsgi: {
        vassal: {
          application: "hello",
          user: "clerk",
          module: "hello",
          listens: "127.0.0.1:9092",
          settings: { env: `GREETING=${uwsgiSetting}` },
        },
      },
      commands: { say: { run: say("command"), user: "clerk", once: true, after: ["directory//srv/out", "file//usr/local/lib/say.py"] } },
      sites: {
        said: {
          names: ["said.localhost"],
          http: true,
          headers: Object.fromEntries(headers.map((v, i) => [`X-Said-${i}`, v])),
          locations: { "/": { files: "/srv/web" } },
        },
      },
    },
  },
};

test.before(async () => {
  project = await testProject(["kano-konnect"]);
  writeFileSync(join(project.folder, "stacks/quoting.yaml"), JSON.stringify(stack, null, 1));
  const store = join(project.folder, ".ingot/secrets/quoting");
  mkdirSync(store, { recursive: true, mode: 0o700 });
  // One newline at the end is the file's, not the value's.
  for (const [i, line] of secrets.entries()) writeFileSync(join(store, `line-${i}`), `${line}\n`, { mode: 0o600 });
});
test.after(() => project?.remove());

interface Heard {
  argv: string[];
  env: Record<string, string>;
  url: string;
}

test("it boots with all of them, and every check holds", async () => {
  const up = await project.ingot(["up", "quoting"]);
  assert.is(up.code, 0, up.stderr + up.stdout);
});

for (const by of ["service", "supervisor", "timer"])
  test(`arguments, environment and secrets arrive through ${by}`, async () => {
    const heard = JSON.parse(
      await on(`for i in $(seq 120); do [ -e /srv/out/${by} ] && break; sleep 1; done; cat /srv/out/${by}`),
    ) as Heard;
    assert.equal(heard.argv, oneLine);
    assert.equal(heard.env, { ...numbered("V", lines), ...numbered("S", secrets), ...numbered("E", oneLine) });
    assert.is(decodeURIComponent(/^postgres:\/\/weird:(.*)@127\.0\.0\.1:5432\/weird$/.exec(heard.url)?.[1] ?? ""), secrets[0]);
  });

test("arguments arrive through a command; its environment is the user's alone", async () => {
  assert.equal(JSON.parse(await on("cat /srv/out/command")) as Heard, { argv: oneLine, env: {}, url: null } as unknown as Heard);
});

test("exec hands over bytes as they are, in both directions, and when they come", async () => {
  const argv = [process.execPath, join(toolFolder, "dist/ingot.js"), "exec", "quoting", "--"];
  const there = "head -c 300000 /dev/urandom >/run/bytes; sha256sum </run/bytes >&2; cat /run/bytes";
  const { stdout, stderr } = await tryRun(["sh", "-c", '"$@" | sha256sum', "sh", ...argv, "sh", "-c", there], { cwd: project.folder });
  assert.is(stdout, stderr);
  const back = await tryRun(["sh", "-c", 'head -c 300000 /dev/zero | tr "\\0" "\\377" | "$@"', "sh", ...argv, "sha256sum"], {
    cwd: project.folder,
  });
  assert.is(back.stdout.slice(0, 64), createHash("sha256").update(Buffer.alloc(300000, 0xff)).digest("hex"));
  const { child, ended } = project.begin(["exec", "quoting", "--", "sh", "-c", "echo first; exec sleep 4321"]);
  const first = await new Promise((resolve) => child.stdout?.once("data", (chunk: Buffer) => resolve(chunk.toString())));
  assert.is(first, "first\n");
  child.kill("SIGTERM");
  assert.is.not((await ended).code, 0);
  assert.is(await on("pgrep -f 'sleep 4321' | grep -vx $$"), "");
});

test("settings in Python are what was declared", async () => {
  const { settings } = JSON.parse(await on("hello-manage show")) as { settings: Record<string, unknown> };
  assert.equal(settings.WRITTEN, lines);
  assert.equal(settings.SECRETS, secrets);
  assert.equal(settings.KEYS, Object.fromEntries([...new Set(lines)].map((l) => [l, 1])));
  assert.is(decodeURIComponent(/:\/\/weird:(.*)@/.exec(String(settings.URL))?.[1] ?? ""), secrets[0]);
});

test("paths, links, contents and templates are what was declared", async () => {
  const listed = JSON.parse(
    await on(
      `python3 -c 'import json, os; print(json.dumps({"paths": sorted("/srv/" + n for n in os.listdir("/srv")), "links": {n: os.readlink("/srv/" + n) for n in os.listdir("/srv") if os.path.islink("/srv/" + n)}, "content": open("/srv/content", newline="").read(), "template": open("/srv/template", newline="").read()}))'`,
    ),
  ) as {
    paths: string[];
    links: Record<string, string>;
    content: string;
    template: string;
  };
  for (const p of paths) assert.ok(listed.paths.includes(p), p);
  assert.equal(listed.links, numbered("link-", targets));
  assert.is(listed.content, lines.join(""));
  assert.is(listed.template, secrets.join("|"));
});

test("headers are what was declared", async () => {
  const answer = await on("curl -s -i -H 'Host: said.localhost' http://127.0.0.1/");
  for (const [i, value] of headers.entries()) assert.is(new RegExp(`^X-Said-${i}: (.*)\r$`, "m").exec(answer)?.[1], value, value);
});

test("settings of PostgreSQL and uWSGI are what was declared", async () => {
  assert.is(await on("runuser -u postgres -- psql -XAtc 'show said.plainly'"), `${setting}\n`);
  const { environment } = JSON.parse(await on("curl -s http://127.0.0.1:9092/")) as { environment: Record<string, string> };
  assert.is(environment.GREETING, uwsgiSetting);
});

test("a password of such characters logs in", async () => {
  assert.is(await on("/usr/lib/ingot/login.py 127.0.0.1 5432 weird weird /var/lib/ingot/secrets/line-0 && echo in"), "in\n");
});

test("applied again nothing changes, every check holds, and nothing was executed on the way", async () => {
  assert.equal(((await project.json(["apply", "quoting"])) as { changed: string[] }).changed, []);
  assert.is((await project.ingot(["verify", "quoting"])).code, 0);
  assert.is(await on("ls /srv/executed /executed 2>/dev/null; find / -xdev -name executed -newer /etc/hostname 2>/dev/null | head -3"), "");
});

test.run();
