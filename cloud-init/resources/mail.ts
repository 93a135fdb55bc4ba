// The mail server of the host: what it sends goes to a relay, what it takes goes to programs.
import { choice, either, flag, type Infer, integer, list, map, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { type Host, inside, type Kind, kind, onlyOne, type Problem, pkg, renderedFile, standingStill, stranger } from "../kind.ts";
import { privateProblems, reachableAt } from "../listener.ts";
import { serverAndPort } from "../names.ts";
import { secretRef } from "../value.ts";
import { backup } from "./backup.ts";
import { certificatePath, isAcme, keyPath } from "./certificate.ts";
import { deliverCommand } from "./delivery.ts";
import { external, serverOf } from "./external.ts";

const address = text({ pattern: "^[A-Za-z0-9_+][A-Za-z0-9._%+-]*(@[A-Za-z0-9.-]+)?$", expected: "a mail address" });
const domain = text({ pattern: "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", expected: "a domain in lower case" });

const schema = object({
  relay: optional(
    text({
      pattern: `^${serverAndPort}$`,
      expected: "a server, such as `smtp.example.org:587`",
      description: "The server that takes what leaves the host; without one it is brought to its receivers directly",
    }),
  ),
  through: optional(
    ref("external", { description: "Or the external server that does (`kind: smtp`), with its user, password and authority" }),
  ),
  username: optional(text({ pattern: "^[^\\s:]+$", description: "Its user, when the relay wants one" })),
  password: optional({ ...secretRef, description: "Its password" }),
  tls: withDefault(
    choice(["verify", "encrypt", "may", "none"], {
      description: "With the relay: encrypted and its certificate verified; encrypted; encrypted where it can be; not at all",
    }),
    "verify",
  ),
  authority: optional(
    text({
      pattern: "^/[^\\s]+$",
      expected: "an absolute path",
      description: "Certificates that vouch for the relay; the system's own when left out",
    }),
  ),
  domain: optional({ ...domain, description: "What stands behind the `@` of a sender without a domain; the host's fqdn when left out" }),
  listen: withDefault(
    choice(["loopback", "private", "world"], {
      description: "Whose mail it takes: this host's, that of the stack's hosts too, or everybody's",
    }),
    "loopback",
  ),
  certificate: optional(ref("certificate", { description: "The certificate that it shows to who brings mail" })),
  domains: withDefault(
    list(domain, { description: "Domains whose mail it takes, beside the host's own name. It relays for nobody else's" }),
    [],
  ),
  aliases: withDefault(
    map(
      object({
        deliver: optional(ref("delivery", { description: "The delivery that takes it" })),
        to: withDefault(list(address, { description: "Or addresses that it goes to" }), []),
      }),
      text({ pattern: "^[a-z0-9][a-z0-9._-]*$", expected: "what stands before the `@`, in lower case" }),
      { description: "What happens to mail, by what stands before the `@`" },
    ),
    {},
  ),
  message_size: withDefault(integer({ minimum: 1, maximum: 1024, description: "The largest message, in MiB" }), 25),
  settings: withDefault(
    map(
      either([text({ pattern: "^[^\\n]*$" }), integer(), flag()]),
      text({ pattern: "^[a-z][a-z0-9_]*$", expected: "a parameter of postconf(5)" }),
      {
        description: "Further parameters of main.cf",
      },
    ),
    {},
  ),
});
type Mail = Infer<typeof schema>;

/** With what is said of the external server that takes its mail. */
function relayed(value: Mail, host: Host): Mail {
  const server = value.through === undefined ? undefined : host.get(external, value.through.replace(/^external\//, ""));
  if (!server) return value;
  const at = serverOf(server.value);
  const { user, password, authority } = server.value;
  return {
    ...value,
    relay: `${at.host}:${at.port}`,
    ...(user !== undefined && { username: user }),
    ...(password && { password }),
    ...(authority !== undefined && { authority }),
  };
}

const passwordPath = "/etc/postfix/ingot-relay";
/** In brackets: the server itself, not the mail exchanger of a domain of that name. */
const relayOf = (relay: string): string => {
  const [server, port] = relay.split(":");
  return `[${server}]${port ? `:${port}` : ""}`;
};

function parametersOf(value: Mail, host: Host): Record<string, string | number | boolean> {
  const { listen } = value;
  return {
    compatibility_level: "3.6",
    myhostname: host.fqdn,
    myorigin: value.domain ?? host.fqdn,
    mydestination: [...new Set([host.fqdn, host.hostname, "localhost", ...value.domains])].join(", "),
    mynetworks: "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128",
    inet_interfaces: listen === "world" ? "all" : listen === "private" ? `127.0.0.1, ${host.address}` : "loopback-only",
    ...(listen === "private" && { inet_protocols: "ipv4" }),
    smtpd_banner: "$myhostname ESMTP",
    smtpd_relay_restrictions: "permit_mynetworks, reject_unauth_destination",
    smtpd_helo_required: true,
    disable_vrfy_command: true,
    biff: false,
    append_dot_mydomain: false,
    recipient_delimiter: "+",
    mailbox_size_limit: 0,
    message_size_limit: value.message_size * 2 ** 20,
    alias_maps: "texthash:/etc/postfix/ingot-aliases",
    alias_database: "",
    ...(value.relay && { relayhost: relayOf(value.relay) }),
    // As every program finds a host: the stack's own are in /etc/hosts.
    smtp_host_lookup: "native",
    smtp_tls_CAfile: value.authority ?? "/etc/ssl/certs/ca-certificates.crt",
    smtp_tls_security_level: value.relay === undefined && value.tls === "verify" ? "may" : value.tls === "verify" ? "secure" : value.tls,
    ...(value.username && {
      smtp_sasl_auth_enable: true,
      smtp_sasl_password_maps: `texthash:${passwordPath}`,
      smtp_sasl_security_options: "noanonymous",
      // Never in plain: where TLS is not demanded, only over TLS.
      smtp_sasl_tls_security_options: "noanonymous",
      smtp_tls_mandatory_protocols: ">=TLSv1.2",
    }),
    ...(value.certificate && {
      smtpd_tls_cert_file: certificatePath(value.certificate),
      smtpd_tls_key_file: keyPath(value.certificate),
      smtpd_tls_security_level: "may",
      smtpd_tls_auth_only: true,
    }),
    ...value.settings,
  };
}

const shown = (value: string | number | boolean): string => (typeof value === "boolean" ? (value ? "yes" : "no") : String(value));

const unit = "postfix.service";
/** The unit that runs the server: until Postfix 3.9 Debian's is an instance, which the other one only stands for. */
function serverUnit(host: Host): string {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(host.image.packages.postfix ?? "") ?? [];
  return major === undefined || Number(major) < 3 || (Number(major) === 3 && Number(minor) < 9) ? "postfix@-.service" : unit;
}

export const mail: Kind<Mail> = kind({
  kind: "mail",
  key: "mail",
  shape: "one",
  summary:
    "Postfix: programs of the host send mail by it, through a relay or directly; with `aliases:` it also takes mail and hands it to deliveries or other addresses. It relays for nobody but the host itself.",
  schema,
  examples: [
    "image: patchwork\nmail: { relay: 'smtp.example.org:587', username: shop, password: { secret: smtp } }\n",
    "image: patchwork\nexternals:\n  relay: { kind: smtp, address: 'smtp.example.org:587', user: shop, password: { secret: smtp } }\nmail: { through: relay }\n",
    "image: patchwork\ndomain: example.org\nusers:\n  clerk: { system: true }\ndeliveries:\n  inbox: { user: clerk, command: cat }\nmail:\n  listen: world\n  domains: [example.org]\n  aliases:\n    patches: { deliver: inbox }\n    root: { to: [ops@example.net] }\n",
  ],
  outputs: (_, _host, at) => ({
    "smtp.address": { parts: [`${at}:25`], description: "Where it takes mail: `127.0.0.1:25`" },
  }),
  awaited: ({ value }, _, at) =>
    value.listen === "loopback" ? { unreachable: "listens on loopback alone", hint: "write `listen: private`" } : reachableAt(at, 25),
  // What waits to be sent or delivered. Postfix itself gives restored messages the names that it wants (postsuper(1), -s).
  state: (_, host) => ({
    name: "mail",
    paths: ["active", "bounce", "corrupt", "defer", "deferred", "hold", "incoming", "maildrop"].map(
      (queue) => `/var/spool/postfix/${queue}`,
    ),
    ...standingStill(serverUnit(host)),
  }),
  binds: () => [25],
  after: (_, host) => host.all(backup).map((b) => b.id),
  needs: ({ value }, host) => [pkg("postfix"), ...(relayed(value, host).username ? [pkg("libsasl2-modules")] : [])],
  problems: ({ value: declared }, host): Problem[] => {
    const value = relayed(declared, host);
    const server = host.get(external, (value.through ?? "").replace(/^external\//, ""));
    const problems: Problem[] = Object.entries(value.aliases).flatMap(([name, alias]): Problem[] => {
      const wrong = onlyOne(`the alias ${name}`, { deliver: alias.deliver, to: alias.to.length ? alias.to : undefined });
      return wrong ? [{ code: "ING1431", path: ["aliases", name], message: wrong }] : [];
    });
    if (declared.through !== undefined && (declared.relay ?? declared.username ?? declared.password ?? declared.authority) !== undefined)
      problems.push({
        code: "ING1431",
        path: ["through"],
        message: "`through:` says all of the relay",
        hint: "leave `relay:`, `username:`, `password:` and `authority:` out",
      });
    if (server && server.value.kind !== "smtp")
      problems.push({
        code: "ING1431",
        path: ["through"],
        message: `${server.id} speaks ${server.value.kind}, and takes no mail`,
        related: { id: server.id, message: "declared here" },
      });
    if ((value.username === undefined) !== (value.password === undefined))
      problems.push({ code: "ING1431", message: "a relay's `username:` and `password:` belong together", hint: "add the other one" });
    if (value.username !== undefined && value.relay === undefined)
      problems.push({ code: "ING1431", path: ["username"], message: "there is no relay to log in to", hint: "add `relay:`" });
    if (value.username !== undefined && ["may", "none"].includes(value.tls))
      problems.push({
        code: "ING1431",
        path: ["tls"],
        message: `the password could be sent in plain (\`tls: ${value.tls}\`)`,
        hint: "write `tls: verify`, or `tls: encrypt` for a relay whose certificate nobody vouches for",
      });
    return [...problems, ...privateProblems(value.listen, host)];
  },
  compile: ({ value: declared }, host) => {
    const value = relayed(declared, host);
    const aliases = Object.entries(value.aliases).map(
      ([name, { deliver, to }]) => `${name} ${deliver === undefined ? to.join(", ") : `"|${deliverCommand(deliver).join(" ")}"`}\n`,
    );
    const inputs = ["/etc/postfix/main.cf", "/etc/postfix/ingot-aliases"];
    return {
      secrets: value.password ? [{ name: value.password.secret, generate: value.password.generate }] : [],
      ports: value.listen === "loopback" ? [] : [{ port: 25, protocol: "tcp", from: value.listen === "world" ? "world" : "stack" }],
      files: [
        {
          path: "/etc/postfix/main.cf",
          mode: "0644",
          content: Object.entries(parametersOf(value, host))
            .map(([k, v]) => `${k} = ${shown(v)}\n`)
            .join(""),
        },
        { path: "/etc/postfix/ingot-aliases", mode: "0644", content: aliases.join("") },
        // Debian's unit leaves a server that was killed where it lies.
        {
          path: `/etc/systemd/system/${serverUnit(host)}.d/ingot.conf`,
          mode: "0644",
          content: "[Service]\nRestart=on-failure\nRestartSec=1\n",
        },
        { path: "/etc/mailname", mode: "0644", content: `${value.domain ?? host.fqdn}\n` },
      ],
      steps: [
        ...(value.relay && value.username && value.password
          ? [
              renderedFile("password", { path: passwordPath, mode: "0600" }, [
                `${relayOf(value.relay)} ${value.username}:`,
                { secret: value.password.secret },
                "\n",
              ]),
            ]
          : []),
        {
          action: "postfix",
          args: {
            unit,
            instance: serverUnit(host),
            inputs: [
              ...inputs,
              ...(value.username ? [passwordPath] : []),
              ...(value.certificate && !isAcme(value.certificate, host)
                ? [certificatePath(value.certificate), keyPath(value.certificate)]
                : []),
            ],
            // Postfix opens ports only when it starts.
            hash: [value.listen, host.address ?? []].flat().join(" "),
            listens: "127.0.0.1:25",
          },
        },
      ],
    };
  },
  checks: ({ value }, host) => [
    inside("unit", { name: unit, active: true, enabled: true }),
    ...(serverUnit(host) === unit ? [] : [inside("unit", { name: serverUnit(host), active: true }, "instance")]),
    inside("smtp", { name: host.fqdn }, "answers"),
    ...(value.listen === "loopback" ? [stranger("tcp", { port: 25, open: false }, "closed")] : []),
    ...(value.listen === "world"
      ? [stranger("smtp", { port: 25, name: host.fqdn, refuses: "somebody@relay.invalid" }, "relays-for-nobody")]
      : []),
  ],
});
