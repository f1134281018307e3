#!/usr/bin/env python3
"""The command line of deployer: `./manage.py help` lists the commands.

Any Python 3 may start it: where requirements.txt is not installed, the Python of `.venv` beside this file takes over.
"""

import os
import re
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"


def lacks_requirements() -> bool:
    """Whether something that requirements.txt names, or Django where there is no such file, is not installed."""
    file = HERE / "requirements.txt"
    names = re.findall(r"^[\w.-]+", file.read_text(), re.MULTILINE) if file.is_file() else ["Django"]
    try:
        for name in names:
            metadata.version(name)
    except metadata.PackageNotFoundError:
        return True
    return False


def hand_over() -> None:
    """Go on with the Python of the environment; where that is this one, or is not there, say what to run."""
    python = ENVIRONMENT / "bin" / "python"
    if python.is_file() and Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
        command = [str(python), str(HERE / "manage.py"), *sys.argv[1:]]
        os.execv(python, command)  # noqa: S606 (no shell is wanted)
    print(
        f"deployer's requirements are not installed: run “make .venv/.run” in {HERE}, or “make run”, "
        "which starts deployer too.",
        file=sys.stderr,
    )
    sys.exit(2)


def main() -> None:
    """Run one management command; a wrong setting ends it with a sentence, not a traceback."""
    if lacks_requirements():
        hand_over()
    os.umask(0o077)  # what is written is nobody else's to read
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
