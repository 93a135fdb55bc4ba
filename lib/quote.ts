// Every quoting boundary has its one function here (what is rendered with secrets in it is quoted on the host, by
// cloud-init/host/render.py, which is held to the same tests). Each throws for what its language cannot say at all.

export class QuoteError extends Error {}

function refuse(value: string, forbidden: RegExp, language: string): void {
  const found = forbidden.exec(value);
  if (found) throw new QuoteError(`${language} cannot hold the character ${JSON.stringify(found[0])} (in ${JSON.stringify(value)})`);
}

/** One word for a POSIX shell. */
export function shell(word: string): string {
  refuse(word, /\0/, "a shell word");
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** An item of a list that an action is given, one to a line. */
export function line(item: string): string {
  refuse(item, /[\0\n]/, "a list of lines");
  return item;
}

/** A command in sudoers(5) with exactly these arguments: what is special there, and what would be a wildcard, is escaped. */
export function sudoersCommand(words: string[]): string {
  const [program = "", ...args] = words;
  for (const word of words) refuse(word, /[\0\n\r]/, "sudoers");
  for (const word of args) refuse(word, /^$|[ \t"]/, "an argument of a command in sudoers");
  const escaped = (word: string) => word.replace(/[\\,:=*?[\]!#()]/g, "\\$&");
  // Without arguments the command may be run with any; "" allows none.
  return [escaped(program), ...(args.length ? args.map(escaped) : ['""'])].join(" ");
}

/** One word of a command line in a systemd unit (systemd.service(5), "Command lines"): quotes, `$` and `%` stand for themselves. */
export function unitWord(word: string): string {
  refuse(word, /[\0\n\r]/, "a unit's command line");
  const escaped = word.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /^[A-Za-z0-9_./:=@%+,$-]+$/.test(escaped) ? escaped : `"${escaped.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** One `NAME=value` of `Environment=` in a systemd unit. */
export function unitEnvironment(name: string, value: string): string {
  refuse(value, /[\0\n\r]/, "Environment=");
  return `"${name}=${value.replaceAll("%", "%%").replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** A path in a list of a unit's paths, such as `ReadWritePaths=`. */
export function unitPath(path: string): string {
  refuse(path, /[\0\n\r]/, "a unit's path");
  const escaped = path.replaceAll("%", "%%");
  return /[\s"'\\]/.test(escaped) ? `"${escaped.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"` : escaped;
}

/** The name of the unit for a path (systemd-escape --path). */
export function unitName(path: string): string {
  const trimmed = path.replace(/\/+/g, "/").replace(/^\/|\/$/g, "");
  if (trimmed === "") return "-";
  return [...Buffer.from(trimmed)].map((byte, i) => unitNameByte(byte, i)).join("");
}

function unitNameByte(byte: number, index: number): string {
  const c = String.fromCharCode(byte);
  if (c === "/") return "-";
  if (/[A-Za-z0-9:_]/.test(c) || (c === "." && index > 0)) return c;
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}

/** A parameter in nginx's configuration. `$` begins a variable there and cannot be escaped, so it is refused. */
export function nginx(word: string): string {
  refuse(word, /[\0\n\r$]/, "nginx's configuration");
  return /^[A-Za-z0-9_./:=@%+,*~^-]+$/.test(word) ? word : `"${word.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** A path in logrotate's configuration; `*`, `?` and `[…]` stay what they are there. Nothing in quotes can be escaped. */
export function logrotatePath(path: string): string {
  refuse(path, /[\0\n\r"\\{}]/, "logrotate's configuration");
  return `"${path}"`;
}

/** A path in exports(5), where white space ends it, `#` begins a comment, and `\\040` is a byte in octal. */
export function exportsPath(path: string): string {
  refuse(path, /[\0\n\r]/, "the list of exports");
  return [...Buffer.from(path)]
    .map((b) => (/[A-Za-z0-9_./:@%+=,-]/.test(String.fromCharCode(b)) ? String.fromCharCode(b) : `\\${b.toString(8).padStart(3, "0")}`))
    .join("");
}

/** A literal of Python's. JSON's texts are Python's as well: every escape that JSON.stringify writes means the same there. */
export function python(value: string | number | boolean | null): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "number" ? String(value) : JSON.stringify(value);
}

/** A value in an ini file of uWSGI's: `%` begins a placeholder; `$(…)` and `@(…)` are put in from elsewhere, and cannot be escaped. */
export function uwsgiSetting(value: string | number | boolean): string {
  if (typeof value !== "string") return String(value);
  refuse(value, /[\0\n\r]|^\s|\s$/, "an ini file of uWSGI's");
  refuse(value, /[$@]\(/, "an ini file of uWSGI's");
  return value.replaceAll("%", "%%");
}

/** A value in postgresql.conf. */
export function postgresqlSetting(value: string | number | boolean): string {
  if (typeof value === "boolean") return value ? "on" : "off";
  if (typeof value === "number") return String(value);
  refuse(value, /[\0\n\r]/, "postgresql.conf");
  return `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

/** Splits a command as a shell would, without any of its expansions: what is quoted, also in double quotes, is itself. @throws QuoteError for an open quote or what only a shell can do */
export function splitCommand(command: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (let i = 0; i < command.length; i++) {
    const c = command[i] ?? "";
    if (/\s/.test(c)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (c === "'" || c === '"') {
      const close = command.indexOf(c, i + 1);
      if (close < 0) throw new QuoteError(`the quote ${c} is not closed`);
      const quoted = command.slice(i + 1, close);
      if (c === '"' && /\\(["\\$`]|$)/.test(quoted))
        throw new QuoteError("a backslash in double quotes means something to a shell, and there is none here: use single quotes");
      word = (word ?? "") + quoted;
      i = close;
    } else if (/[;&|<>()`$\\*?{}#~!]/.test(c)) {
      throw new QuoteError(`\`${c}\` means something to a shell, and there is none here: put it in quotes, or the command into a script`);
    } else word = (word ?? "") + c;
  }
  if (word !== undefined) words.push(word);
  return words;
}
