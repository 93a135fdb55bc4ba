import { everywhere } from "../capability.ts";

export const system = everywhere(
  "What a machine with systemd wants: D-Bus, sessions, modules, rotated logs; nothing that changes it by itself",
  {
    packages: ["dbus", "libpam-systemd", "kmod", "procps", "logrotate"],
    disabled: [
      "apt-daily.timer",
      "apt-daily-upgrade.timer",
      "dpkg-db-backup.timer",
      "e2scrub_all.timer",
      "e2scrub_reap.service",
      "fstrim.timer",
    ],
  },
);
