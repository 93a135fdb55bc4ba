// A systemd unit as its user wrote it: for what no kind is made for.
import { readFileSync } from "node:fs";
import { flag, type Infer, list, object, optional, text, withDefault } from "../../lib/schema.ts";
import { type Host, inStackFolder, inside, isThere, type Kind, kind, onlyOne, type Problem } from "../kind.ts";
import { opens, reachProblems } from "../listener.ts";
import { absolutePath } from "../names.ts";
import { certificate, certificatePath } from "./certificate.ts";
import { installsMore } from "./package.ts";
import { service } from "./service.ts";
import { timer } from "./timer.ts";

const schema = object({
  content: optional(text({ description: "The unit, as systemd.unit(5) has it" })),
  source: optional(
    text({ description: "Or the file beside the stack that it is copied from. With neither of the two it is a unit of the image's" }),
  ),
  inputs: withDefault(list(absolutePath, { description: "Files whose change starts it anew: what it is configured by" }), []),
  reload: withDefault(flag({ description: "A change of `inputs:` alone is a reload" }), false),
  opens,
  start: withDefault(flag({ description: "Enabled and started; otherwise it is only there, for others that want it" }), true),
});
type Unit = Infer<typeof schema>;

/** A unit of a package in the image, which is only enabled and started. */
const isOfImage = ({ content, source }: Unit): boolean => content === undefined && source === undefined;
const contentOf = (value: Unit, host: Host): string => value.content ?? readFileSync(inStackFolder(host, value.source ?? ""), "utf8");

export const unit: Kind<Unit> = kind({
  kind: "unit",
  key: "units",
  shape: "many",
  summary:
    "A systemd unit as you write it, by its full name. Services and timers have kinds of their own, with a sandbox; this is for sockets, paths, slices, drop-in targets and whatever else systemd knows. A unit that a package of the image brings is only named, and is then enabled and started.",
  names: text({
    pattern: "^[A-Za-z0-9:_.@\\\\-]+\\.(service|socket|timer|path|target|slice|mount|swap)$",
    expected: "a unit's full name, such as `shop.socket`",
  }),
  schema,
  examples: [
    'units:\n  batch.slice: { content: "[Slice]\\nCPUQuota=50%\\nMemoryMax=512M\\n", start: false }\n  hello.path: { content: "[Path]\\nPathExists=/run/hello\\nUnit=hello.service\\n[Install]\\nWantedBy=paths.target\\n" }\n  hello.service: { content: "[Service]\\nType=oneshot\\nExecStart=/bin/true\\n", start: false }\n',
    "files:\n  /etc/default/cron-of-mine: { content: 'A=1' }\nunits:\n  fstrim.timer: { inputs: [/etc/default/cron-of-mine], reload: true }\n  docker.service: { opens: [{ port: 2377, from: stack }] }\n",
  ],
  problems: ({ name, value }, host): Problem[] => {
    const reach = value.opens.flatMap((o, i) => reachProblems(o.from, host, ["opens", i, "from"]));
    if (reach.length) return reach;
    if (isOfImage(value)) {
      if (!value.start)
        return [{ code: "ING1404", message: `the unit ${name} has neither \`content:\` nor \`source:\`, and is not to be started` }];
      return host.image.units?.has(name) === false && !installsMore(host).length
        ? [
            {
              code: "ING1303",
              message: `there is no unit ${name} in the image ${host.image.name}`,
              hint: "give it `content:` or `source:`, or add the package that brings it to the recipe",
            },
          ]
        : [];
    }
    const wrong = onlyOne(`the unit ${name}`, { content: value.content, source: value.source });
    if (wrong) return [{ code: "ING1404", message: wrong }];
    if (value.source !== undefined && !isThere(host, value.source, "file"))
      return [{ code: "ING1401", path: ["source"], message: `there is no file \`${value.source}\` beside the stack` }];
    const plain = name.replace(/\.(service|timer)$/, "");
    const other = host.get(service, plain) ?? host.get(timer, plain);
    if (/\.(service|timer)$/.test(name) && other)
      return [{ code: "ING1507", message: `${name} is a unit of ${other.id}`, related: { id: other.id, message: "it is declared here" } }];
    if (host.image.units?.has(name))
      return [
        {
          code: "ING1507",
          message: `${name} is a unit of the image ${host.image.name} already`,
          hint: "a drop-in is a file: `/etc/systemd/system/<unit>.d/….conf`",
        },
      ];
    if (value.start && !/^\[Install\]/m.test(contentOf(value, host)))
      return [
        {
          code: "ING1421",
          message: `${name} is to be started, and has no [Install] that would start it again after a reboot`,
          hint: "add one (`WantedBy=multi-user.target`), or write `start: false`",
        },
      ];
    return [];
  },
  // What configures it comes first, and what may bring it.
  after: ({ value }, host) => [
    ...value.inputs.map((i) => `file/${i}`),
    ...(isOfImage(value) ? installsMore(host) : []),
    ...host.all(certificate).flatMap((c) => (value.inputs.includes(certificatePath(c.name)) ? [c.id] : [])),
  ],
  binds: ({ value }) => value.opens.map((o) => o.port),
  compile: ({ name, value }, host) => ({
    ports: value.opens,
    files: isOfImage(value) ? [] : [{ path: `/etc/systemd/system/${name}`, mode: "0644", content: contentOf(value, host) }],
    steps: value.start
      ? [
          {
            action: "service",
            args: { unit: name, ...(value.inputs.length && { inputs: value.inputs }), ...(value.reload && { reload: true }) },
          },
        ]
      : [],
  }),
  checks: ({ name, value }) => [inside("unit", { name, ...(value.start && { active: true, enabled: true }) })],
});
