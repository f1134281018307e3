#!/usr/bin/env python
"""The command line of deployer: `python manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    """Run one management command; a wrong setting ends it with a sentence, not a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        if sys.argv[1:2] in (["version"], ["--version"]):  # which Django answers with its own
            _print_version(sys.argv[2:])
        else:
            execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"deployer: {error}")


def _print_version(arguments: list[str]) -> None:
    import django
    from django.core.management import load_command_class

    django.setup()
    load_command_class("deployer", "version").run_from_argv([sys.argv[0], "version", *arguments])


if __name__ == "__main__":
    main()
