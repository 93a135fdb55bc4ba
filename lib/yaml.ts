// YAML with positions: js-yaml gives the value and the events; from the events comes, for every node, where it stands.
import {
  CORE_SCHEMA,
  EVENT_ALIAS,
  EVENT_DOCUMENT,
  EVENT_MAPPING,
  EVENT_POP,
  EVENT_SCALAR,
  EVENT_SEQUENCE,
  getScalarValue,
  load,
  parseEvents,
  YAMLException,
} from "js-yaml";
import { type Diagnostic, diagnostic, type Position, type Range } from "./diagnostics.ts";

export type Path = (string | number)[];

export interface YamlFile {
  file: string;
  text: string;
  /** What the file says, by YAML 1.2's core schema; undefined when it does not parse. */
  value: unknown;
  /** Where the value at `path` stands; where it is missing, the nearest value above it that is there. */
  rangeOf(path: Path): Range;
  /** Where the key that ends `path` stands; the value's place when it has none. */
  keyRangeOf(path: Path): Range;
  diagnostics: Diagnostic[];
}

/** A file larger than this (bytes) or with more nodes once its aliases are followed is refused. */
const limits = { bytes: 1_000_000, nodes: 100_000, depth: 50 };

interface Node {
  range: Range;
  key?: Range;
  children?: Map<string | number, Node>;
  /** Of a scalar: what it is called as a key. */
  name?: string;
  /** How many nodes it stands for once aliases are followed. */
  weight: number;
}

/** Parses one YAML document. Never throws for what is in the file: `diagnostics` says what is wrong (ING10xx). */
export function parseYaml(file: string, text: string): YamlFile {
  const places = positions(file, text);
  const top: Range = places(0, Math.min(1, text.length));
  const broken = (d: Diagnostic): YamlFile => ({
    file,
    text,
    value: undefined,
    rangeOf: () => top,
    keyRangeOf: () => top,
    diagnostics: [d],
  });
  if (text.length > limits.bytes) return broken(diagnostic("ING1003", top, `larger than ${limits.bytes} bytes`));
  let root: Node;
  let value: unknown;
  try {
    const built = compose(text, places);
    if (built.documents !== 1) {
      return broken(
        built.documents === 0
          ? diagnostic("ING1002", top, "the file is empty", { hint: "a stack begins with `stack: <name>`, a recipe with `image: <name>`" })
          : diagnostic("ING1002", built.second ?? top, "a second YAML document begins here; one file holds one"),
      );
    }
    if (built.tooMany)
      return broken(
        diagnostic("ING1003", built.tooMany, `its aliases stand for more than ${limits.nodes} values`, {
          hint: "write the values out, or fewer aliases",
        }),
      );
    if (built.twice)
      return broken(
        diagnostic("ING1001", built.twice.range, `this is not YAML: the key \`${built.twice.key}\` stands here a second time`, {
          related: [{ message: "the first one", range: built.twice.first }],
          hint: "merge the two, or rename one",
        }),
      );
    if (built.noText)
      return broken(
        diagnostic("ING1001", built.noText, "a key must be a text, and here a map or a list stands for one", {
          hint:
            text[built.noText.start.offset] === "{"
              ? "nothing is filled in for `{{ … }}`: a variable is written `{ var: name }`"
              : undefined,
        }),
      );
    if (built.endless)
      return broken(
        diagnostic(
          "ING1003",
          built.endless,
          `\`${text.slice(built.endless.start.offset, built.endless.end.offset)}\` stands inside the very value that it stands for`,
          {
            hint: "write the value out",
          },
        ),
      );
    root = built.root;
    value = load(text, { schema: CORE_SCHEMA, filename: file });
  } catch (error) {
    if (!(error instanceof YAMLException)) throw error;
    // Where the text ends too early, its last character is shown and not the nothing behind it.
    const at = Math.min(error.mark?.position ?? 0, Math.max(0, text.trimEnd().length - 1));
    if (/exceeded maxDepth/.test(error.reason))
      return broken(diagnostic("ING1003", places(at, at + 1), `nested deeper than ${limits.depth} levels`));
    return broken(diagnostic("ING1001", places(at, at + 1), `this is not YAML: ${error.reason}`, hintFor(error.reason, text, at)));
  }
  const find = (path: Path): Node => {
    let node = root;
    for (const part of path) {
      const next = node.children?.get(part);
      if (!next) break;
      node = next;
    }
    return node;
  };
  return {
    file,
    text,
    value,
    rangeOf: (path) => find(path).range,
    keyRangeOf: (path) => {
      const node = find(path);
      return node.key ?? node.range;
    },
    diagnostics: [],
  };
}

function hintFor(reason: string, text: string, at: number): { hint?: string } {
  const line = text.slice(text.lastIndexOf("\n", at - 1) + 1, at + 1);
  if (line.includes("\t")) return { hint: "YAML is indented with spaces, not tabs" };
  if (/deficient indentation/.test(reason))
    return { hint: "a `{`, `[` or quote further up is not closed, or this line is not indented far enough" };
  if (/unidentified alias/.test(reason)) return { hint: "`&name` must stand before `*name`; quote a text that begins with `*`" };
  if (/unknown .*tag/.test(reason)) return { hint: "there are no tags here: remove it, or quote a text that begins with `!`" };
  if (/end of the stream within a flow/.test(reason)) return { hint: "a `{` or `[` is not closed" };
  if (/end of the stream within a .*quoted/.test(reason)) return { hint: "a quote is not closed" };
  if (/indentation|mapping values|mapping entry/i.test(reason)) return { hint: "check the indentation, and quote a text that holds `: `" };
  return {};
}

/** Gives the function from offsets to a range with lines and columns. */
function positions(file: string, text: string): (start: number, end: number) => Range {
  const starts = [0];
  for (let i = text.indexOf("\n"); i >= 0; i = text.indexOf("\n", i + 1)) starts.push(i + 1);
  const position = (offset: number): Position => {
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - (starts[low] ?? 0) + 1, offset };
  };
  return (start, end) => ({ file, start: position(start), end: position(Math.max(start, end)) });
}

function compose(
  text: string,
  places: (start: number, end: number) => Range,
): {
  root: Node;
  documents: number;
  second?: Range;
  tooMany?: Range;
  endless?: Range;
  noText?: Range;
  twice?: { key: string; range: Range; first: Range };
} {
  const anchors = new Map<string, Node>();
  let root: Node = { range: places(0, 0), weight: 1 };
  let documents = 0;
  let second: Range | undefined;
  let tooMany: Range | undefined;
  let endless: Range | undefined;
  let noText: Range | undefined;
  let twice: { key: string; range: Range; first: Range } | undefined;
  type Open = { node: Node; start: number; end: number; sequence: boolean; key?: { name: string; range: Range } };
  const open: Open[] = [];
  const attach = (node: Node, end: number) => {
    const parent = open.at(-1);
    if (!parent) {
      if (documents === 1) root = node;
      else second ??= node.range;
      return;
    }
    parent.end = Math.max(parent.end, end);
    parent.node.children ??= new Map();
    if (parent.sequence) parent.node.children.set(parent.node.children.size, node);
    else if (!parent.key) {
      const { name = "", range } = node;
      if (node.name === undefined) noText ??= range;
      const first = parent.node.children.get(name);
      if (first) twice ??= { key: name, range, first: first.key ?? first.range };
      parent.key = { name, range };
      return;
    } else {
      parent.node.children.set(parent.key.name, { ...node, key: parent.key.range });
      parent.key = undefined;
    }
    parent.node.weight += node.weight;
    if (parent.node.weight > limits.nodes) tooMany ??= node.range;
  };
  for (const event of parseEvents(text, { maxDepth: limits.depth })) {
    if (event.type === EVENT_DOCUMENT) documents++;
    else if (event.type === EVENT_MAPPING || event.type === EVENT_SEQUENCE) {
      const node: Node = { range: places(event.start, event.start), weight: 1 };
      if (event.anchorStart >= 0) anchors.set(text.slice(event.anchorStart, event.anchorEnd), node);
      open.push({
        node,
        start: event.start,
        end: event.start,
        sequence: event.type === EVENT_SEQUENCE,
      });
    } else if (event.type === EVENT_POP) {
      const done = open.pop();
      if (!done) continue; // the document's own end
      const flow = text[done.start] === "{" || text[done.start] === "[";
      const end = flow ? closing(text, Math.max(done.end, done.start + 1)) + 1 : done.end;
      done.node.range = places(done.start, end);
      attach(done.node, end);
    } else if (event.type === EVENT_SCALAR) {
      const quoted = event.style === 2 || event.style === 3 ? 1 : 0;
      // Nothing at all (`key:`) stands where its key ends.
      const parent = open.at(-1);
      const start = event.valueStart >= 0 ? event.valueStart - quoted : (parent?.key?.range.end.offset ?? parent?.end ?? 0);
      const end = event.valueEnd >= 0 ? event.valueEnd + quoted : start;
      const node: Node = {
        range: places(start, Math.max(end, start)),
        name: keyName(getScalarValue(text, event), quoted === 0),
        weight: 1,
      };
      if (event.anchorStart >= 0) anchors.set(text.slice(event.anchorStart, event.anchorEnd), node);
      attach(node, end);
    } else if (event.type === EVENT_ALIAS) {
      const target = anchors.get(text.slice(event.anchorStart, event.anchorEnd));
      const range = places(event.anchorStart - 1, event.anchorEnd);
      if (open.some((o) => o.node === target)) endless ??= range;
      attach({ range, children: target?.children, name: target?.name, weight: target?.weight ?? 1 }, event.anchorEnd);
    }
  }
  return { root, documents, second, tooMany, endless, noText, twice };
}

/** What a scalar is called as a key: `0x10`, written plain, is the key `16`. */
function keyName(value: string, plain: boolean): string {
  if (!plain || (value !== "" && !/^([-+.\d~]|true$|false$|null$)/i.test(value))) return value;
  try {
    return String(load(value, { schema: CORE_SCHEMA }) ?? null);
  } catch {
    return value;
  }
}

/** Offset of the bracket at or behind `from`: behind white space, commas and comments. */
function closing(text: string, from: number): number {
  const between = /(?:[\s,]|(?<=\s)#[^\n]*)*/y;
  between.lastIndex = from;
  return from + (between.exec(text)?.[0].length ?? 0);
}
