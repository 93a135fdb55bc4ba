// A cron expression as systemd's calendar events: crontab(5), systemd.time(7).

const months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
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
  if (ofWeek === undefined) return [`${date} ${time}`];
  if (day === "*") return [`${ofWeek} ${date} ${time}`];
  return [`${date} ${time}`, `${ofWeek} *-${months_}-* ${time}`];
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
  return text
    .split(",")
    .map((part) => {
      const [range = "", every, more] = part.split("/");
      const step = every === undefined ? undefined : Number(every);
      if (more !== undefined || (step !== undefined && !(Number.isInteger(step) && step > 0)))
        throw new CronError(`\`${part}\` is no ${what}`);
      const [first, last] = bounds(range, from, to, what, names);
      if (step !== undefined) return `${first}..${last}/${step}`;
      return range === "*" ? `${from}..${to}` : first === last ? String(first) : `${first}..${last}`;
    })
    .join(",");
}

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
  const found = new Set<number>();
  for (const part of text.split(",")) {
    const [range = "", every = "1"] = part.split("/");
    const [first, last] = bounds(range, 0, 7, "day of the week", days);
    const step = Number(every);
    if (!(Number.isInteger(step) && step > 0)) throw new CronError(`\`${part}\` is no day of the week`);
    for (let d = first; d <= last; d += step) found.add(d % 7);
  }
  const names = [1, 2, 3, 4, 5, 6, 0].filter((d) => found.has(d)).map((d) => days[d] ?? "");
  return names.map((n) => n[0]?.toUpperCase() + n.slice(1)).join(",");
}

/** A timer unit that begins the service of its name. */
export const timerUnit = (description: string, times: string[]): string =>
  ["[Unit]", `Description=${description}`, "", "[Timer]", ...times, "", "[Install]", "WantedBy=timers.target", ""].join("\n");
