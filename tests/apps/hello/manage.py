#!/usr/bin/env python3
"""What a Django project's manage.py would be: says its settings, as whom and where it runs."""
import importlib
import json
import os
import pwd
import sys


def settings():
    module = importlib.import_module("hello_settings.production")
    return {name: getattr(module, name) for name in sorted(vars(module)) if name.isupper()}


def main():
    if sys.argv[1:] == ["show"]:
        print(json.dumps({"settings": settings(), "user": pwd.getpwuid(os.geteuid()).pw_name, "greeting": os.environ.get("GREETING"), "folder": os.getcwd()}))
    elif sys.argv[1:] == ["live"]:
        with open(os.environ["SHARED"] + "/live", "a", encoding="utf-8") as file:
            file.write(os.path.basename(os.path.dirname(os.getcwd())) + " " + os.readlink("/srv/bundle/current").rsplit("/", 1)[-1] + "\n")
    else:
        sys.exit(f"manage.py: there is no command {sys.argv[1:]}")


if __name__ == "__main__":
    main()
