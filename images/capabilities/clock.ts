import { everywhere } from "../capability.ts";

export const clock = everywhere("A clock that asks others (systemd-timesyncd)", {
  packages: ["systemd-timesyncd"],
  disabled: ["systemd-timesyncd.service"],
});
