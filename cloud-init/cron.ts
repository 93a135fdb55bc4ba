// A cron expression as systemd's calendar events: crontab(5), systemd.time(7).

const months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/** At most: February in a leap year. */
const daysOf = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const short: Record<string, string> = {
  "@hourly": "0 * * * *",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@weekly": "0 0 * * 0",
  "@monthly": "0 0 1 * *",
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
};

export class CronError extends Error {}

/**
 * Calendar events that together are the expression: one, or two where it names days of the month and of the week, since cron then runs on
 * both.
 * @throws CronError
 */
export function calendarsOf(expression: string): string[] {
  const fields = (short[expression.trim()] ?? expression.trim()).split(/\s+/);
  if (fields.length !== 5) throw new CronError(`\`${expression}\` has ${fields.length} fields, and cron's expressions have five`);
  const [minute = "", hour = "", day = "", month = "", weekday = ""] = fields;
  const time = `${field(hour, 0, 23, "hour")}:${field(minute, 0, 59, "minute")}:00`;
  const months_ = field(month, 1, 12, "month", months);
  const date = `*-${months_}-${field(day, 1, 31, "day of the month")}`;
  const ofWeek = weekdays(weekday);
  // cron takes either day, unless a field of theirs begins with an asterisk.
  if (ofWeek !== undefined && !day.startsWith("*") && !weekday.startsWith("*"))
    return [`${date} ${time}`, `${ofWeek} *-${months_}-* ${time}`];
  const longest = Math.max(...numbersOf(month, 1, 12, "month", months).map((m) => daysOf[m - 1] ?? 0));
  if (Math.min(...numbersOf(day, 1, 31, "day of the month")) > longest)
    throw new CronError(`\`${expression}\` never comes: the longest of its months has ${longest} days`);
  return [ofWeek === undefined ? `${date} ${time}` : `${ofWeek} ${date} ${time}`];
}

function numberIn(text: string, from: number, to: number, what: string, names: string[]): number {
  const named = names.indexOf(text.toLowerCase());
  const n = named >= 0 ? named + from : /^\d{1,2}$/.test(text) ? Number(text) : Number.NaN;
  if (!(n >= from && n <= to)) throw new CronError(`\`${text}\` is no ${what}: ${from} to ${to}`);
  return n;
}

/** One field: `*`, `5`, `1-5`, `1-20/5`, `*\/10`, or several with commas. */
function field(text: string, from: number, to: number, what: string, names: string[] = []): string {
  if (text === "*") return "*";
  return partsOf(text, from, to, what, names)
    .map(({ first, last, step }) => {
      if (step !== undefined) return `${first}..${last}/${step}`;
      return first === last ? String(first) : `${first}..${last}`;
    })
    .join(",");
}

interface Part {
  first: number;
  last: number;
  step?: number;
}

function partsOf(text: string, from: number, to: number, what: string, names: string[]): Part[] {
  return text.split(",").map((part) => {
    const [range = "", every, more] = part.split("/");
    const step = every === undefined ? undefined : Number(every);
    if (more !== undefined || (step !== undefined && !(Number.isInteger(step) && step > 0)))
      throw new CronError(`\`${part}\` is no ${what}`);
    const [first, last] = bounds(range, from, to, what, names);
    return { first, last, ...(step !== undefined && { step }) };
  });
}

/** Every number that a field has. */
const numbersOf = (text: string, from: number, to: number, what: string, names: string[] = []): number[] =>
  partsOf(text, from, to, what, names).flatMap(({ first, last, step = 1 }) =>
    Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => first + i * step),
  );

function bounds(range: string, from: number, to: number, what: string, names: string[]): [number, number] {
  if (range === "*") return [from, to];
  const [a = "", b, more] = range.split("-");
  const first = numberIn(a, from, to, what, names);
  const last = b === undefined ? first : numberIn(b, from, to, what, names);
  if (more !== undefined || last < first) throw new CronError(`\`${range}\` is no range of a ${what}`);
  return [first, last];
}

/** As systemd writes them, "Mon,Tue"; undefined for every day. cron's Sunday is 0 and 7. */
function weekdays(text: string): string | undefined {
  if (text === "*") return undefined;
  const found = new Set(numbersOf(text, 0, 7, "day of the week", days).map((d) => d % 7));
  const names = [1, 2, 3, 4, 5, 6, 0].filter((d) => found.has(d)).map((d) => days[d] ?? "");
  return names.map((n) => n[0]?.toUpperCase() + n.slice(1)).join(",");
}

/** A timer unit that begins the service of its name. */
export const timerUnit = (description: string, times: string[]): string =>
  ["[Unit]", `Description=${description}`, "", "[Timer]", ...times, "", "[Install]", "WantedBy=timers.target", ""].join("\n");
