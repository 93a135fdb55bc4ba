import { everywhere } from "../capability.ts";

export const uwsgi = everywhere("uWSGI and its plugin for Python", { packages: ["uwsgi-core", "uwsgi-plugin-python3"] });
