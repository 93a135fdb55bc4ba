import type { Capability } from "../capability.ts";

export const python: Capability = {
  description: "Python, with venv and pip",
  choices: { bookworm: ["3.11"], trixie: ["3.13"], jammy: ["3.10"], noble: ["3.12"] },
  brings: () => ({ packages: ["python3", "python3-venv", "python3-pip"] }),
};
