// A WSGI application that uWSGI serves, as a vassal of its emperor.
import { uwsgiSetting } from "../../lib/quote.ts";
import { either, flag, type Infer, integer, map, object, ref, text, withDefault } from "../../lib/schema.ts";
import { type CheckDraft, type Host, inside, type Kind, kind, type Problem, pkg, type Resource } from "../kind.ts";
import { bindsOf, listenerAwaited, listenerChecks, listenerKeys, listenerOutputs, listenerPorts, listenerProblems } from "../listener.ts";
import { groupsOf, programAfter, programKeys, programProblems, programScript, scriptOf } from "../program.ts";
import { application, currentOf } from "./application.ts";
import { nginxGroup } from "./nginx.ts";

const { command: _, ...runKeys } = programKeys;
const schema = object({
  ...runKeys,
  ...listenerKeys,
  application: ref("application", { description: "The application whose live release it serves" }),
  module: text({
    pattern: "^[A-Za-z_][A-Za-z0-9_.]*(:[A-Za-z_][A-Za-z0-9_]*)?$",
    expected: "a Python module, such as `shop.wsgi` or `shop.wsgi:application`",
    description: "The module of its WSGI application",
  }),
  processes: withDefault(integer({ minimum: 1, maximum: 512, description: "Its worker processes" }), 2),
  threads: withDefault(integer({ minimum: 1, maximum: 512, description: "Threads of each of them" }), 1),
  settings: withDefault(
    map(either([text(), integer(), flag()]), text({ pattern: "^[a-z][a-z0-9-]*$", expected: "the name of an option of uWSGI" }), {
      description: "Further options of uWSGI's",
    }),
    {},
  ),
});
type Vassal = Infer<typeof schema>;

export const vassalPath = (name: string): string => `/etc/ingot/uwsgi/${name}.ini`;
/** Where nginx reaches it: a folder that is its user's, and that nginx may look into. */
const folderOf = (name: string): string => `/run/uwsgi/${name}`;
/** Made at every boot by systemd-tmpfiles. */
export const folderPath = (name: string): string => `/etc/tmpfiles.d/ingot-uwsgi-${name}.conf`;
export const socketOf = (name: string): string => `${folderOf(name)}/${name}.sock`;

const own = [
  "master",
  "module",
  "chdir",
  "virtualenv",
  "home",
  "socket",
  "http-socket",
  "http",
  "uid",
  "gid",
  "processes",
  "workers",
  "threads",
];

function configurationOf({ name, value }: Resource<Vassal>, host: Host): string {
  const app = currentOf(value.application);
  const options: Record<string, string | number | boolean> = {
    plugins: "python3",
    master: true,
    "need-app": true,
    "die-on-term": true,
    "enable-threads": true,
    chdir: `${app}/app`,
    ...(host.get(application, value.application)?.value.python !== undefined && { virtualenv: `${app}/venv` }),
    module: value.module,
    ...(value.listens ? { "http-socket": value.listens } : { socket: socketOf(name), "chmod-socket": 660 }),
    processes: value.processes,
    threads: value.threads,
    // nginx has an access log; what fails stands here, too.
    "disable-logging": true,
    "log-5xx": true,
    "reload-mercy": 30,
    ...value.settings,
  };
  return ["[uwsgi]", ...Object.entries(options).map(([k, v]) => `${k} = ${uwsgiSetting(v)}`), ""].join("\n");
}

export const uwsgi: Kind<Vassal> = kind({
  kind: "uwsgi",
  key: "uwsgi",
  shape: "many",
  summary:
    "An application's WSGI module, served by uWSGI as a vassal of one emperor, under a user of its own. A site reaches it by `proxy: uwsgi/<name>`: through a socket that only nginx may open, or over HTTP where it `listens:`. A new release is taken over by a graceful reload, which loses no request.",
  schema,
  implies: ["emperor"],
  examples: [
    "image: kano-konnect\nusers:\n  shop: { system: true }\napplications:\n  shop: { source: ../tests/apps/inloop, user: shop }\nuwsgi:\n  shop: { application: shop, user: shop, module: inloop.wsgi, processes: 4, settings: { harakiri: 30 } }\nsites:\n  shop: { names: [shop.localhost], http: true, proxy: uwsgi/shop }\n",
  ],
  outputs: ({ value }, _host, at) => listenerOutputs(value, at),
  awaited: ({ value }, _host, at) => listenerAwaited(value, at),
  binds: ({ value }) => bindsOf(value),
  after: ({ value }, host) => programAfter(value, host),
  problems: ({ value }, host): Problem[] => [
    ...listenerProblems(value, host),
    ...programProblems({ ...value, command: "uwsgi" }, host),
    ...Object.keys(value.settings)
      .filter((s) => own.includes(s))
      .map((s) => ({ code: "ING1405", path: ["settings", s], message: `\`${s}\` is Ingot's own to set` })),
  ],
  needs: () => [pkg("uwsgi-core"), pkg("uwsgi-plugin-python3")],
  compile: (self, host) => ({
    files: [
      { path: vassalPath(self.name), mode: "0644", content: configurationOf(self, host) },
      { path: scriptOf(self.name), mode: "0755", content: programScript(self.value, ["uwsgi"], host) },
      ...(self.value.listens
        ? []
        : [
            {
              path: folderPath(self.name),
              mode: "0644" as const,
              content: `d ${folderOf(self.name)} 2750 ${self.value.user} ${nginxGroup(host)} -\n`,
            },
          ]),
    ],
    ports: listenerPorts(self.value),
  }),
  checks: ({ name, value }, host): CheckDraft[] => [
    inside("vassal", { name, user: value.user, groups: groupsOf(value, host), processes: value.processes, within: 15 }),
    ...(value.listens
      ? listenerChecks(value)
      : [inside("path", { path: socketOf(name), type: "socket", owner: value.user, mode: "0660", within: 5 }, "socket")]),
  ],
});
