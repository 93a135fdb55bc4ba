// A program that supervisor keeps running, for those who operate by supervisorctl.
import { choice, type Infer, object, optional, text, withDefault } from "../../lib/schema.ts";
import { inside, type Kind, kind, type Resource } from "../kind.ts";
import { bindsOf, listenerAwaited, listenerChecks, listenerKeys, listenerOutputs, listenerPorts, listenerProblems } from "../listener.ts";
import { groupsOf, programAfter, programKeys, programProblems, programScript, scriptOf, stopSignalOf } from "../program.ts";
import { commandOf, currentOf } from "./application.ts";

const programName = text({ pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]*$", expected: "a name of letters, digits, `_`, `-` and `.`" });

const schema = object({
  ...programKeys,
  ...listenerKeys,
  group: optional({
    ...programName,
    description: "A group of supervisor's: its programs are started and stopped together, as `<group>:*`",
  }),
  stop_signal: optional(
    choice(["TERM", "INT", "QUIT", "HUP"], {
      description: "How it is asked to end: by SIGTERM, uWSGI by SIGQUIT, unless this says otherwise",
    }),
  ),
  log_size: withDefault(
    text({ pattern: "^[1-9][0-9]*(KB|MB|GB)$", expected: "a size such as `50MB`", description: "Its log is rotated at this size" }),
    "50MB",
  ),
});
type Supervised = Infer<typeof schema>;

export const programPath = (name: string): string => `/etc/supervisor/conf.d/${name}.conf`;
/** As supervisorctl calls it. */
export const fullName = ({ name, value }: Resource<Supervised>): string => (value.group ? `${value.group}:${name}` : name);

const folderOf = ({ application: app }: Supervised) => (app ? { folder: `${currentOf(app)}/app` } : {});

const configurationOf = ({ name, value }: Resource<Supervised>): string =>
  [
    `[program:${name}]`,
    `command=${scriptOf(name)}`,
    "autostart=true",
    "autorestart=true",
    "startsecs=1",
    // It is tried again for as long as it takes, a second later each time.
    "startretries=1000000",
    `stopsignal=${value.stop_signal ?? stopSignalOf(value.command)}`,
    "stopwaitsecs=60",
    "killasgroup=true",
    "redirect_stderr=true",
    `stdout_logfile=/var/log/supervisor/${name}.log`,
    `stdout_logfile_maxbytes=${value.log_size}`,
    "stdout_logfile_backups=5",
    "",
  ].join("\n");

export const supervisor: Kind<Supervised> = kind({
  kind: "supervisor",
  key: "supervisor",
  shape: "many",
  summary:
    "A program that supervisor keeps running under a user of its own, with a log of its own in `/var/log/supervisor/<name>.log`. Its environment, secrets included, is in no file that others read. Where nothing asks for supervisor, a service is the simpler choice: it has a sandbox of its own, and systemd can hold its port.",
  names: programName,
  schema,
  implies: ["supervisord"],
  examples: [
    "image: kano-konnect\nusers:\n  shop: { system: true }\nsupervisor:\n  shop-web: { user: shop, group: shop, command: 'uwsgi --plugins python3,http --http-socket 127.0.0.1:9090 --master --wsgi-file /srv/web.py', listens: 127.0.0.1:9090 }\n  shop-work: { user: shop, group: shop, command: sleep infinity, stop_signal: INT }\n",
  ],
  outputs: ({ value }, _, at) => listenerOutputs(value, at),
  awaited: ({ value }, _, at) => listenerAwaited(value, at),
  binds: ({ value }) => bindsOf(value),
  after: ({ value }, host) => programAfter(value, host),
  problems: ({ value }, host) => [...programProblems(value, host), ...listenerProblems(value, host)],
  compile: (self, host) => ({
    files: [
      { path: programPath(self.name), mode: "0644", content: configurationOf(self) },
      {
        path: scriptOf(self.name),
        mode: "0755",
        content: programScript(self.value, commandOf(self.value.command), host, folderOf(self.value)),
      },
    ],
    ports: listenerPorts(self.value),
  }),
  checks: (self, host) => [
    inside("supervised", { name: fullName(self), user: self.value.user, groups: groupsOf(self.value, host), within: 30 }),
    ...listenerChecks(self.value),
  ],
});
