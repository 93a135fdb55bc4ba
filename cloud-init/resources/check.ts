// An assertion of the user's own about a site.
import { integer, map, object, optional, ref, text, withDefault } from "../../lib/schema.ts";
import { kind, onlyOne, operator, type Problem } from "../kind.ts";
import { pinOf, site } from "./site.ts";

export const check = kind({
  kind: "check",
  key: "checks",
  shape: "many",
  summary:
    "A request to a site and what must come back, asked over the network whenever the host is verified. What a host must be follows from its resources already; this is for what only its application knows.",
  schema: object({
    site: ref("site", { description: "The site that is asked, by its first name" }),
    get: optional(text({ pattern: "^/", expected: "a path that begins with `/`", description: "Path of a GET request" })),
    post: optional(text({ pattern: "^/", expected: "a path that begins with `/`", description: "Or of a POST request" })),
    form: optional(map(text(), text(), { description: "Fields of a POST request" })),
    status: withDefault(integer({ minimum: 100, maximum: 599, description: "The status that must come back" }), 200),
    contains: optional(text({ description: "A text that must be in the answer" })),
    header: optional(map(text(), text(), { description: "Headers that must come back, with these values" })),
  }),
  examples: [
    "sites:\n  hello: { names: [hello.localhost], http: true, locations: { /: { files: /srv/hello } } }\nchecks:\n  home: { site: hello, get: /, status: 200 }\n",
  ],
  problems: ({ name, value }): Problem[] => {
    const wrong = onlyOne(`the check ${name}`, { get: value.get, post: value.post });
    return [
      ...(wrong ? [{ code: "ING1415", message: wrong }] : []),
      ...(value.form && !value.post ? [{ code: "ING1415", path: ["form"], message: "only a POST request has a form" }] : []),
    ];
  },
  compile: () => ({}),
  checks: ({ value }, host) => {
    const target = host.get(site, value.site);
    const scheme = target?.value.certificate ? "https" : "http";
    const path = value.get ?? value.post ?? "/";
    return [
      operator("http", {
        url: `${scheme}://${target?.value.names[0]}${path}`,
        method: value.get ? "GET" : "POST",
        ...(target && pinOf(target.value, host)),
        status: value.status,
        ...(value.form && { form: value.form }),
        ...(value.contains && { contains: value.contains }),
        ...(value.header && { headers: value.header }),
        within: 15,
      }),
    ];
  },
});
