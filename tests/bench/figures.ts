// How measurements are said, in all of them alike.
export const say = (text: string): void => console.error(`  ${text}`);
export const shown = (n: number): string => n.toFixed(1);
export const seconds = (since: number): number => (performance.now() - since) / 1000;

export const verdict = (ratio: number, bar: number): string => `${ratio.toFixed(2)} (bar ${bar}: ${ratio <= bar ? "held" : "MISSED"})`;
