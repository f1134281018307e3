#!/usr/bin/env python3
"""The command line of a checkout: the same as `deployer`, by whatever Python 3 there is.

Where requirements.txt is not installed for it, the Python of `.venv` beside this file takes over.
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


if __name__ == "__main__":
    if lacks_requirements():
        hand_over()
    from deployer.__main__ import main

    main()
