// A release of an application: built once elsewhere, unpacked here, migrated, made live.
import { digestOf } from "../../lib/digest.ts";
import { QuoteError, splitCommand } from "../../lib/quote.ts";
import { type Infer, list, map, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import type { Path } from "../../lib/yaml.ts";
import { type DatabasePlace, databasePlace } from "../connection.ts";
import { fixedId, type Host, inside, isBelow, isThere, kind, type Problem, pkg, type Resource, type StepDraft } from "../kind.ts";
import { absolutePath, environmentName } from "../names.ts";
import type { Part } from "../plan.ts";
import { programScript } from "../program.ts";
import { secretsBelow, settingsFiles, settingsGroup, settingsOf, settingsProblems, settingsSchema } from "../settings.ts";
import { sourceProblems, sourceSchema, sourceText } from "../source.ts";
import { fromsBelow, looksSecret, type Nested, urlWithPassword, type Value, valueSchema } from "../value.ts";
import { directory } from "./directory.ts";
import { file } from "./file.ts";
import { link } from "./link.ts";
import { versionIn } from "./postgresql.ts";
import { configurationFiles } from "./rabbitmq.ts";
import { service } from "./service.ts";
import { supervisor } from "./supervisor.ts";
import { uwsgi } from "./uwsgi.ts";

const schema = object({
  source: {
    ...sourceSchema,
    description: "The folder with its sources, relative to the stack; or a tarball; or a commit of a git repository",
  },
  at: optional({ ...absolutePath, description: "Another place where its live sources are found: a link to them, such as `/opt/shop`" }),
  python: optional(
    text({
      description:
        "A pip requirements file with exact versions and hashes, in the source folder: the release gets a virtualenv made from it",
    }),
  ),
  wheels: optional(text({ description: "A folder beside the stack with the wheels of that file, for who builds without a package index" })),
  npm: optional(
    text({
      pattern: "^([^/].*/)?package-lock\\.json$",
      expected: "a package-lock.json",
      description:
        "A package-lock.json in the sources: its packages are installed beside it, without those for development and without their scripts",
    }),
  ),
  static: optional(
    object(
      {
        collect: text({ description: "The command that collects static files into `application/<name>.static`" }),
        at: optional({ ...absolutePath, description: "Another place where they are found: a link to them, such as `/var/www/shop`" }),
        compress: withDefault(
          list(text({ pattern: "^[a-z0-9]+$" }), { description: "Endings of files that get a compressed twin (.gz)" }),
          [],
        ),
      },
      { description: "Its static files, collected once when the release is built" },
    ),
  ),
  user: optional(ref("user", { description: "Runs the commands of `before_live`; the user of its first service when left out" })),
  env: withDefault(
    map(valueSchema, environmentName, {
      description: "Its environment, kept in a file that only root and its services read",
    }),
    {},
  ),
  expects: withDefault(
    object(
      {
        names: withDefault(list(environmentName, { description: "Variables that it cannot do without" }), []),
        with: withDefault(
          map(list(environmentName), environmentName, {
            description: "Variables that another one, when it is set and not `false`, cannot do without",
          }),
          {},
        ),
        inside: withDefault(map(environmentName, environmentName, { description: "Paths that must lie in another variable's path" }), {}),
      },
      { description: "What its environment must be, known before anything is launched" },
    ),
    { names: [], with: {}, inside: {} },
  ),
  settings: optional(settingsSchema),
  manage: optional(
    text({
      pattern: "^[A-Za-z0-9_][A-Za-z0-9_./-]*\\.py$",
      expected: "a script in the sources, such as `manage.py`",
      description: "The script that `<name>-manage` runs on the host: in the live release, with its environment, as its user",
    }),
  ),
  before_live: withDefault(
    list(text(), {
      description:
        "Commands that must succeed before a release goes live, run in its folder with its environment; each once for a release and its inputs",
    }),
    [],
  ),
  once: withDefault(
    list(text(), {
      description:
        "Commands that are run behind `before_live`, each once for the data, however many releases follow: what the data begins with, and others change",
    }),
    [],
  ),
  after_live: withDefault(
    list(text(), { description: "Commands that are run once its services run the release, each once for a release and its inputs" }),
    [],
  ),
  superuser: optional(
    object(
      { name: text({ description: "Its name" }), email: text({ description: "Its address" }) },
      { description: "A Django superuser with a generated password, made once" },
    ),
  ),
});
export type Application = Infer<typeof schema>;

export const baseOf = (name: string): string => `/srv/${name}`;
export const currentOf = (name: string): string => `${baseOf(name)}/current`;
/** What outlives a release and belongs to none of them. */
export const sharedOf = (name: string): string => `${baseOf(name)}/shared`;
export const envPath = (name: string): string => `/var/lib/ingot/applications/${name}.env`;

/** What its environment lacks of what it expects. */
function expectedProblems({ env, expects }: Application, host: Host): Problem[] {
  const lacks = (name: string, why: string): Problem[] =>
    Object.hasOwn(env, name) ? [] : [{ code: "ING1429", path: ["env"], message: `${name} is not set${why}`, hint: `add \`${name}:\`` }];
  const textOf = (name: string) =>
    env[name] === undefined
      ? undefined
      : host
          .parts(env[name])
          .map((p) => (typeof p === "string" ? p : ""))
          .join("");
  const isSet = (name: string) => !["", "0", "false", "False", undefined].includes(textOf(name));
  return [
    ...expects.names.flatMap((name) => lacks(name, ", and the application expects it")),
    ...Object.entries(expects.with).flatMap(([name, others]) =>
      isSet(name) ? others.flatMap((o) => lacks(o, `, which ${name} asks for`)) : [],
    ),
    ...Object.entries(expects.inside).flatMap(([name, outer]): Problem[] => {
      const [path, folder] = [textOf(name), textOf(outer)];
      return path === undefined || folder === undefined || isBelow(path, folder)
        ? []
        : [{ code: "ING1429", path: ["env", name], message: `${name} (${path}) must lie inside of ${outer} (${folder})` }];
    }),
  ];
}

/** Whether its environment names a virtual host of this host's RabbitMQ. */
const usesBroker = ({ value }: Resource<Application>): boolean =>
  Object.values(value.env).some((v) => typeof v === "object" && !Array.isArray(v) && "from" in v && v.from.startsWith("rabbitmq/"));

/** Files whose change makes its programs start anew. */
export const inputsOf = (app: Resource<Application>): string[] => [
  envPath(app.name),
  ...settingsFiles(app).map((s) => s.path),
  // Not every client begins anew after RabbitMQ's restart: Celery's `rpc://` waits for ever at the connection that was.
  ...(usesBroker(app) ? configurationFiles : []),
];

/** The environment as the host renders it: every value in pieces. Also what a service of it runs with. */
export const environmentOf = (app: Resource<Application>, host: Host): Record<string, Part[]> =>
  Object.fromEntries(Object.entries(app.value.env).map(([name, value]) => [name, host.parts(value)]));

/** A command's words; `manage.py …` is run by the release's own Python. @throws QuoteError */
export const commandOf = (command: string): string[] => {
  const words = splitCommand(command);
  return words[0]?.endsWith(".py") ? ["python3", ...words] : words;
};

/** Secrets that a map of values names, with how each is made. */
export const secretsIn = (values: Record<string, Value>) =>
  Object.values(values).flatMap((v) =>
    typeof v === "object" && !Array.isArray(v) && "secret" in v ? [{ name: v.secret, generate: v.generate }] : [],
  );

/** What is written out in the stack, unless it is said to be no secret. */
const literalOf = (value: Value): string | undefined => {
  if (Array.isArray(value)) return value.join(",");
  if (typeof value === "object") return "value" in value && !value.plain ? value.value : undefined;
  return typeof value === "boolean" ? undefined : String(value);
};

/** What is wrong with values of an environment: secrets written out. */
export function environmentProblems(env: Record<string, Value>): Problem[] {
  return Object.entries(env).flatMap(([name, value]): Problem[] => {
    const literal = literalOf(value);
    if (literal === undefined) return [];
    if (looksSecret(name)) {
      return [
        {
          code: "ING1407",
          path: ["env", name],
          message: `${name} is a secret by its name, and is written out here`,
          hint: `\`${name}: { secret: ${name.toLowerCase().replaceAll("_", "-")} }\` refers to it in the secrets' store; \`{ value: …, plain: true }\` if it is none`,
        },
      ];
    }
    return urlWithPassword(literal)
      ? [
          {
            code: "ING1407",
            path: ["env", name],
            message: `the url of ${name} has a password in it`,
            hint: "refer to a resource's url by `{ from: database/<name>.url }`, or to a secret by `{ secret: <name> }`",
          },
        ]
      : [];
  });
}

/** What is wrong with a command, which stands at `path` of its resource. */
export const commandProblems = (command: string, path: Path): Problem[] => {
  try {
    return splitCommand(command).length ? [] : [{ code: "ING1408", path, message: "the command is empty" }];
  } catch (error) {
    if (!(error instanceof QuoteError)) throw error;
    return [{ code: "ING1408", path, message: error.message }];
  }
};

/** Commands of Django's, of an application that has no Django. */
function djangoProblems({ python, before_live, once, after_live, static: files }: Application, { image }: Host): Problem[] {
  if (python !== undefined || Object.hasOwn(image.packages, "python3-django")) return [];
  const places = [
    ...before_live.map((run, i) => ({ run, path: ["before_live", i] })),
    ...once.map((run, i) => ({ run, path: ["once", i] })),
    ...after_live.map((run, i) => ({ run, path: ["after_live", i] })),
    ...(files ? [{ run: files.collect, path: ["static", "collect"] }] : []),
  ];
  return places.flatMap(({ run, path }): Problem[] => {
    const [, name] = /\bmanage\.py +(migrate|check|collectstatic|loaddata|createsuperuser|compilemessages)\b/.exec(run) ?? [];
    return name === undefined
      ? []
      : [
          {
            code: "ING1448",
            path,
            message: `\`${name}\` is a command of Django's, and this application has no virtualenv that it would be in`,
            hint: `add \`python:\`, its requirements file with hashes; or python3-django to images/${image.name}.yaml`,
          },
        ];
  });
}

/** For whoever looks after it: `shop-manage shell`. Only root reads the environment, so others go through sudo. */
const manageScript = (name: string, script: string, user: string, host: Host): string =>
  programScript({ application: name, user, groups: [], env: {}, writable: [] }, ["python3", script], host, {
    folder: `${currentOf(name)}/app`,
    anybody: true,
  });

/** What runs it: services, what supervisor and uWSGI run. */
const programsOf = (name: string, host: Host): string[] => [
  ...host.all(service).flatMap((s) => (s.value.application === name ? [s.id] : [])),
  ...(host.all(supervisor).some((s) => s.value.application === name) ? ["supervisord"] : []),
  ...(host.all(uwsgi).some((s) => s.value.application === name) ? ["emperor"] : []),
];

/** The user of `before_live`. */
const userOf = (app: Resource<Application>, host: Host): string | undefined =>
  app.value.user ??
  [...host.all(service), ...host.all(supervisor), ...host.all(uwsgi)].find((s) => s.value.application === app.name)?.value.user;

/** The database that its environment, or else its settings, name first: stamps of migrations lie there, whichever server's it is. */
function databaseOf(app: Resource<Application>, host: Host): DatabasePlace | undefined {
  const values: Nested[] = [...Object.values(app.value.env), ...settingsFiles(app).flatMap((s) => Object.values(s.values))] as Nested[];
  for (const { from } of values.flatMap(fromsBelow)) {
    const place = databasePlace(from, host);
    if (place) return place;
  }
  return undefined;
}

/** Where else something of it is found: links, each with what it leads to. */
const placesOf = ({ name, value }: Resource<Application>): { part: string; path: string; to: string }[] => [
  ...(value.at === undefined ? [] : [{ part: "at", path: value.at, to: `${currentOf(name)}/app` }]),
  ...(value.static?.at === undefined ? [] : [{ part: "static-at", path: value.static.at, to: `${currentOf(name)}/static` }]),
];

export const application = kind<Application>({
  kind: "application",
  key: "applications",
  shape: "many",
  summary:
    "An application's release. It is built once on the operator's side, in a machine of the same image, into one archive; the host unpacks it to `/srv/<name>/releases/<id>`, runs `before_live` and moves `current`. The host needs no network.",
  schema,
  examples: [
    "users:\n  shop: { system: true }\napplications:\n  shop:\n    source: ../tests/apps/inloop\n    python: requirements.lock\n    user: shop\n    env: { DJANGO_SETTINGS_MODULE: inloop.settings, SECRET_KEY: { secret: django, generate: hex64 } }\n    before_live: [manage.py check]\n",
    "users:\n  shop: { system: true }\napplications:\n  shop:\n    source: { git: https://git.example.org/shop.git, commit: 0123456789abcdef0123456789abcdef01234567 }\n    user: shop\n    npm: package-lock.json\n    manage: manage.py\n    env: { PROXY: true, X_ACCEL_LOCATION: /sendfile, MEDIA: /srv/shop/media, UPLOADS: /srv/shop/media/uploads }\n    expects: { names: [MEDIA], with: { PROXY: [X_ACCEL_LOCATION] }, inside: { UPLOADS: MEDIA } }\n    settings:\n      file: shop/settings/production.py\n      base: .base\n      values: { ADMINS: [[Ops, ops@example.org]], DEBUG: false, SECRET_KEY: { secret: django, generate: hex64 } }\n    after_live: [manage.py warm_up]\n",
    "users:\n  shop: { system: true, home: /opt/shop }\n  postman: { system: true }\nroles:\n  shop: {}\ndatabases:\n  shop: { owner: shop }\napplications:\n  shop:\n    source: ../tests/apps/inloop\n    at: /opt/shop\n    python: requirements.lock\n    user: shop\n    static: { collect: manage.py collectstatic, at: /var/www/shop }\n    settings:\n      - file: shop/production.py\n        values: { DATABASES: { default: { NAME: { from: database/shop.name }, PASSWORD: { from: database/shop.password } } } }\n      - { file: shop/mail.py, only_for: postman, values: { TOKEN: { secret: mail, generate: hex64 } } }\n    before_live: [manage.py migrate]\n    once: [manage.py loaddata beginnings]\n",
  ],
  outputs: ({ name, value }) => ({
    path: { parts: [value.at ?? `${currentOf(name)}/app`], description: "The folder of the live release's sources" },
    static: { parts: [value.static?.at ?? `${currentOf(name)}/static`], description: "The folder of its collected static files" },
    shared: { parts: [sharedOf(name)], description: "A folder that all its releases share; the user of its commands owns it" },
  }),
  after: (app, host) => {
    const user = userOf(app, host);
    const words = [...app.value.before_live, ...app.value.once, ...app.value.after_live].flatMap((command) => command.split(/\s+/));
    return [
      ...(user ? [`user/${user}`] : []),
      // Files that its commands read.
      ...host.all(file).flatMap((f) => (words.includes(f.name) ? [f.id] : [])),
    ];
  },
  needs: (app, host) => [
    pkg("zstd"),
    ...(app.value.python ? [pkg("python3-venv")] : []),
    ...(databaseOf(app, host)?.connection === undefined ? [] : [pkg(`postgresql-client-${versionIn(host)}`)]),
  ],
  problems: (app, host) => {
    const { value } = app;
    const problems: Problem[] = environmentProblems(value.env);
    const needed = (["python", "npm", "manage"] as const).flatMap((key) => (value[key] === undefined ? [] : [{ path: value[key], key }]));
    problems.push(...sourceProblems(host, value.source, needed), ...expectedProblems(value, host));
    if (value.wheels !== undefined && !isThere(host, value.wheels, "folder"))
      problems.push({ code: "ING1401", path: ["wheels"], message: `there is no folder \`${value.wheels}\` beside the stack` });
    for (const { at, values } of settingsFiles(app))
      for (const [name, v] of Object.entries(values)) problems.push(...settingsProblems(v, [...at, "values", name]));
    for (const { part, path } of placesOf(app)) {
      const other = host.get(directory, path) ?? host.get(file, path) ?? host.get(link, path);
      if (other)
        problems.push({
          code: "ING1502",
          path: part === "at" ? ["at"] : ["static", "at"],
          message: `${path} is declared as a ${other.kind}, and is a link of ${app.id}`,
          related: { id: other.id, message: `and as a ${other.kind} here` },
        });
    }
    for (const key of ["before_live", "once", "after_live"] as const)
      for (const [i, command] of value[key].entries()) problems.push(...commandProblems(command, [key, i]));
    problems.push(...djangoProblems(value, host));
    if (value.static) problems.push(...commandProblems(value.static.collect, ["static", "collect"]));
    const needsUser = value.before_live.length || value.once.length || value.after_live.length;
    if ((needsUser || value.superuser || value.manage || value.settings) && !userOf(app, host))
      problems.push({
        code: "ING1409",
        message: `nobody runs the commands of ${app.name}`,
        hint: "give it `user:`, or a service that runs it",
      });
    return problems;
  },
  compile: (app, host) => {
    const { name, value } = app;
    const release = host.release(name);
    const path = `${baseOf(name)}/releases/${release.id}`;
    const user = userOf(app, host) ?? "root";
    const database = databaseOf(app, host);
    const stampIn = database && { database: database.name };
    const group = settingsGroup(app);
    const settings = settingsFiles(app);
    const ready = { parts: ["release", "env", "shared", ...settings.map((s) => s.part)], references: true };
    const run = {
      application: name,
      release: path,
      env: envPath(name),
      user,
      ...(group && { groups: [group] }),
      // Not for the command: its stamp lies there.
      ...(database?.connection !== undefined && { connection: database.connection }),
    };
    const steps: StepDraft[] = [
      {
        part: "release",
        action: "release",
        args: { artifact: release.sha256, path, source: sourceText(value.source), asked: release.asked },
        after: { parts: [], references: false },
        timeoutSeconds: 300,
      },
      {
        part: "env",
        action: "application-env",
        args: { env: { render: { format: "env", values: environmentOf(app, host) } }, path: envPath(name) },
        after: { parts: [], references: false },
      },
      {
        part: "shared",
        action: "directory",
        args: { path: sharedOf(name), owner: user, mode: "0750" },
        after: { parts: [], references: true },
      },
      ...(group
        ? [
            {
              part: "settings-group",
              action: "group",
              args: { name: group, gid: fixedId(group, true), system: true },
              after: { parts: [], references: false },
            },
          ]
        : []),
      ...settings.map((s): StepDraft => {
        const source = { render: { format: "text" as const, value: settingsOf(s, host) } };
        return s.only_for === undefined
          ? {
              part: s.part,
              action: "file",
              args: { path: s.path, source, owner: "root", group, mode: "0640" },
              after: { parts: ["settings-group"], references: false },
            }
          : {
              part: s.part,
              action: "file",
              args: { path: s.path, source, owner: s.only_for, mode: "0400" },
              after: { parts: [], references: true },
            };
      }),
      ...value.before_live.map(
        (command, i): StepDraft => ({
          part: `before-live-${i + 1}`,
          action: "application-command",
          args: { ...run, command: commandOf(command) },
          done: "stamp",
          stampIn,
          after: i === 0 ? ready : { parts: [`before-live-${i}`], references: true },
          timeoutSeconds: 600,
        }),
      ),
    ];
    let last = value.before_live.length ? [`before-live-${value.before_live.length}`] : ready.parts;
    for (const command of new Set(value.once)) {
      const words = commandOf(command);
      // Named by what it does: its stamp is found wherever in the list it stands.
      const part = `once-${digestOf(words).slice(0, 8)}`;
      steps.push({
        part,
        action: "application-command",
        args: { ...run, command: words },
        done: "stamp",
        stampIn,
        stampOf: words,
        after: { parts: last, references: true },
        timeoutSeconds: 600,
      });
      last = [part];
    }
    const superuser = `${host.name}/application/${name}/superuser`;
    if (value.superuser) {
      steps.push({
        part: "superuser",
        action: "application-superuser",
        args: { ...run, name: value.superuser.name, email: value.superuser.email, password: { secret: superuser } },
        done: "stamp",
        stampIn,
        after: { parts: last, references: true },
        timeoutSeconds: 120,
      });
    }
    steps.push({
      part: "live",
      action: "application-live",
      args: { path: currentOf(name), release: path },
      after: { parts: value.superuser ? ["superuser"] : last, references: true },
    });
    const programs = programsOf(name, host);
    steps.push(
      ...placesOf(app).map(
        ({ part, path, to }): StepDraft => ({ part, action: "link", args: { path, to }, after: { parts: ["live"], references: false } }),
      ),
      ...value.after_live.map(
        (command, i): StepDraft => ({
          part: `after-live-${i + 1}`,
          action: "application-command",
          args: { ...run, command: commandOf(command) },
          done: "stamp",
          stampIn,
          after: { parts: [i === 0 ? "live" : `after-live-${i}`], references: true },
          late: programs,
          timeoutSeconds: 600,
        }),
      ),
    );
    return {
      files: value.manage
        ? [{ path: `/usr/local/bin/${name}-manage`, mode: "0755", content: manageScript(name, value.manage, user, host) }]
        : [],
      steps,
      artifacts: [release],
      secrets: [
        ...secretsIn(value.env),
        ...settings.flatMap((s) => Object.values(s.values).flatMap(secretsBelow)),
        ...(value.superuser ? [{ name: superuser, generate: "password" as const }] : []),
      ],
    };
  },
  checks: (app, host) => [
    inside(
      "path",
      { path: currentOf(app.name), type: "symlink", target: `${baseOf(app.name)}/releases/${host.release(app.name).id}` },
      "live",
    ),
    inside("path", { path: envPath(app.name), type: "file", owner: "root", mode: "0600" }, "env"),
    ...settingsFiles(app).map((s) =>
      inside(
        "path",
        {
          path: s.path,
          type: "file",
          ...(s.only_for === undefined ? { owner: "root", mode: "0640" } : { owner: s.only_for, mode: "0400" }),
        },
        s.part,
      ),
    ),
    ...placesOf(app).map(({ part, path, to }) => inside("path", { path, type: "symlink", target: to }, part)),
  ],
});
