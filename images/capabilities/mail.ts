import { everywhere, owner } from "../capability.ts";

export const mail = everywhere("A mail server (Postfix), which can log in at a relay", {
  packages: ["postfix", "libsasl2-modules"],
  users: { postfix: owner(603, "/var/spool/postfix") },
  groups: { postdrop: 613 },
  disabled: ["postfix.service"],
});
