// IPv4 addresses as numbers, for whoever plans networks.

/** "10.1.1.1" → 167837953. */
export const numberOf = (address: string): number => address.split(".").reduce((n, part) => n * 256 + Number(part), 0);

/** 167837953 → "10.1.1.1". */
export const addressOf = (n: number): string => [24, 16, 8, 0].map((shift) => Math.floor(n / 2 ** shift) % 256).join(".");

/** First address of a network ("10.1.1.0/24") and how many it has; its address need not be the first one. */
export function networkOf(cidr: string): { first: number; count: number; bits: number } {
  const [base = "", bits = ""] = cidr.split("/");
  const count = 2 ** (32 - Number(bits));
  return { first: Math.floor(numberOf(base) / count) * count, count, bits: Number(bits) };
}
