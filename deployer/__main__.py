"""The command line: `deployer help` lists its commands. An installation has it by that name, a checkout in bin/."""

import os
import sys
from collections.abc import Sequence

NAME = "deployer"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a wrong setting ends it with a sentence, not a traceback."""
    argv = [NAME, *(sys.argv[1:] if arguments is None else arguments)]
    os.umask(0o077)  # what is written is nobody else's to read
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deployer.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    own = {"version": "version", "--version": "version", "help": "overview", "--help": "overview", "-h": "overview"}
    try:
        if len(argv) == 1:
            _run_own("overview", [])
        elif argv[1] in own and (own[argv[1]] == "version" or len(argv) == 2):  # Django answers with its own
            _run_own(own[argv[1]], argv[2:])
        else:
            if not argv[1].startswith("-"):
                argv[1] = argv[1].replace("-", "_")  # a command is called as people write it, or as Python does
            execute_from_command_line(argv)
    except ImproperlyConfigured as error:
        sys.exit(f"{NAME}: {error}")


def _run_own(command: str, arguments: Sequence[str]) -> None:
    import django
    from django.core.management import load_command_class

    django.setup()
    load_command_class("deployer", command).run_from_argv([NAME, command, *arguments])


if __name__ == "__main__":
    main()
