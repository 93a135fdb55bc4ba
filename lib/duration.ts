// Durations as people write them: 90s, 5m, 1h, 30d, 2w. For options of commands and for fields of stacks.
const units: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

export const durationPattern = "^[1-9][0-9]{0,5}[smhdw]$";
export const durationExpected = "a duration such as `90s`, `5m`, `12h`, `30d` or `2w`";

/** Seconds; undefined for what is no duration. */
export function secondsIn(text: string): number | undefined {
  if (!new RegExp(durationPattern).test(text)) return undefined;
  return Number(text.slice(0, -1)) * (units[text.at(-1) ?? ""] ?? Number.NaN);
}
