// A directory that other hosts of the stack mount: NFS version 4, and nothing of NFS beside it.
import { exportsPath } from "../../lib/quote.ts";
import { type Infer, list, object, ref, text } from "../../lib/schema.ts";
import { type Host, inside, isBelow, type Kind, kind, type Problem, pkg, type Resource } from "../kind.ts";
import { reachProblems } from "../listener.ts";
import { directory, foldersAbove } from "./directory.ts";
import { file } from "./file.ts";
import { link } from "./link.ts";
import { volume } from "./volume.ts";

const port = 2049;
const schema = object({
  directory: ref("directory", { order: false, description: "The directory, declared below `directories:`" }),
  to: list(text({ pattern: "^[a-z0-9][a-z0-9_-]*$", expected: "the name of a host of the stack" }), {
    minItems: 1,
    description:
      "The hosts of the stack that may mount it. Who reads and writes there is decided by owners and modes; their root is nobody",
  }),
});
type Export = Infer<typeof schema>;

/** Where a target that has no NFS puts the folder that it gives to all hosts of an export (plan.ts, SharedFolder). */
export const sharedFolder = (host: string, name: string): string => `/run/ingot/shared/${host}/${name}`;

/** Directories, files and links of the host in a directory, itself too. */
export const inTree = (path: string, host: Host): Resource<{ owner: string; group?: string }>[] =>
  [...host.all(directory), ...host.all(file), ...host.all(link)].filter((r) => isBelow(r.name, path)) as Resource<{
    owner: string;
    group?: string;
  }>[];

const exportsFile = (name: string): string => `/etc/exports.d/ingot-${name}.exports`;
const configuration = "/etc/nfs.conf.d/ingot.conf";
/** What version 3 wants and version 4 does not: an empty unit file is a masked unit (systemd.unit(5)), though nfs-server.service wants them. */
const masked = ["rpcbind.service", "rpcbind.socket", "rpc-statd.service", "rpc-statd-notify.service"];

const addressesOf = (value: Export, host: Host): string[] =>
  host.peers.flatMap((p) => (value.to.includes(p.name) ? [p.address] : [])).sort();

export const exportKind: Kind<Export> = kind({
  kind: "export",
  key: "exports",
  shape: "many",
  summary:
    "A directory that other hosts of the stack mount, over NFS version 4: one port, at the host's `address:`, for the hosts that are named. Owners are numbers there, and the same name has the same number on every host. Machines of the container target have no NFS; there one folder of this computer stands for it ([what that means](../container.md#exports)).",
  schema,
  examples: [
    'hosts:\n  files:\n    image: inloop\n    address: 10.1.1.1\n    users:\n      shop: { system: true }\n    volumes:\n      data: { mount: /srv }\n    directories:\n      /srv/media: { owner: shop }\n      /srv/media/in: { owner: shop, mode: "0700" }\n    exports:\n      media: { directory: /srv/media, to: [worker] }\n  worker: { image: inloop, address: 10.1.1.2 }\n',
  ],
  outputs: ({ value }, _, at) => ({ source: { parts: [`${at}:${value.directory}`], description: "What another host mounts" } }),
  awaited: ({ name }, host, at) => ({
    action: "exported",
    args: { shared: sharedFolder(host.name, name), address: at, port },
    timeoutSeconds: 600,
  }),
  binds: ({ name }, host) => (host.all(exportKind)[0]?.name === name ? [port] : []),
  after: ({ name, value }, host) => foldersAbove(value.directory, host).filter((id) => id !== `export/${name}`),
  needs: () => [pkg("nfs-kernel-server")],
  problems: ({ name, value }, host): Problem[] => {
    const inner = [
      ...host.all(volume).flatMap((v) => (v.value.mount !== value.directory && isBelow(v.value.mount, value.directory) ? [v] : [])),
      ...host.all(exportKind).flatMap((e) => (e.name > name && overlap(e.value.directory, value.directory) ? [e] : [])),
    ];
    return [
      ...(host.address === undefined
        ? [{ code: "ING1423", message: `${host.name} has no \`address:\` to listen at`, hint: "add one, and `network:` to the stack" }]
        : []),
      ...reachProblems(value.to, host, ["to"]),
      ...inner.map((other) => ({
        code: "ING1451",
        path: ["directory"],
        message: `${other.id} is in the exported ${value.directory}, or around it: who mounts one of them would not see the other`,
        hint: "export each of them by itself, beside the other",
        related: { id: other.id, message: "it is declared here" },
      })),
    ];
  },
  compile: ({ name, value }, host) => {
    const all = host.all(exportKind);
    const shared = sharedFolder(host.name, name);
    const folder = { part: "folder", action: "export-folder", args: { path: value.directory, shared } };
    const options = "rw,sync,no_subtree_check,root_squash,sec=sys";
    const clients = addressesOf(value, host).map((address) => `${address}(${options})`);
    const own = {
      path: exportsFile(name),
      mode: "0644" as const,
      content: `${exportsPath(value.directory)} ${clients.join(" ")}\n`,
    };
    const ports = [{ port, protocol: "tcp" as const, from: value.to }];
    const sharedFolders = [{ host: host.name, export: name }];
    // The server is one for all of them: the first has it.
    if (all[0]?.name !== name) return { ports, shared: sharedFolders, files: [own], steps: [folder] };
    return {
      ports,
      shared: sharedFolders,
      files: [
        own,
        {
          path: configuration,
          mode: "0644",
          // Without version 2, which the kernel has no more, rpc.mountd would still listen for it at ports of its own.
          content: `[nfsd]\nhost=${host.address}\nport=${port}\ntcp=y\nudp=n\nvers2=n\nvers3=n\nvers4=y\n`,
        },
        ...masked.map((unit) => ({ path: `/etc/systemd/system/${unit}`, mode: "0644" as const, content: "" })),
      ],
      steps: [
        folder,
        {
          action: "export",
          args: {
            unit: "nfs-server.service",
            inputs: [configuration, ...all.map((e) => exportsFile(e.name))],
            shared: all.map((e) => sharedFolder(host.name, e.name)),
          },
          // What another host finds there is there, with its owners, before it can be mounted.
          late: [
            ...all.map((e) => e.id).filter((id) => id !== `export/${name}`),
            ...all.flatMap((e) => inTree(e.value.directory, host).map((r) => r.id)),
          ],
        },
      ],
    };
  },
  checks: ({ name, value }, host) => [
    inside("exported", { path: value.directory, clients: addressesOf(value, host), shared: sharedFolder(host.name, name) }),
  ],
});

const overlap = (one: string, other: string): boolean => isBelow(one, other) || isBelow(other, one);
