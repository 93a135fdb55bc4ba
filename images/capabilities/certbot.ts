import { everywhere } from "../capability.ts";

export const certbot = everywhere("Certificates from Let's Encrypt (certbot)", { packages: ["certbot"], disabled: ["certbot.timer"] });
