"""What the demo and the playground are made of: free ports, the shop's repository, and the declaration of it all."""

import json
import os
import secrets
import shutil
import socket
import string
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent
#: The servers' names, and from where their SSH ports and their shops' ports are looked for.
SERVERS = ("web-1", "web-2", "web-3")
SSH_PORT, SHOP_PORT = 2201, 8101

_IDENTITY = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Demo",
    "GIT_AUTHOR_EMAIL": "demo@example.com",
    "GIT_COMMITTER_NAME": "Demo",
    "GIT_COMMITTER_EMAIL": "demo@example.com",
}


def free_port(first: int, taken: set[int]) -> int:
    """The first port from ``first`` on that nobody listens on and that is not in ``taken``, to which it is added.

    Raises `OSError` when there is none.
    """
    for port in range(first, 65536):
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        taken.add(port)
        return port
    raise OSError(f"there is no free port from {first} on")


def new_version() -> str:
    """A version for the shop that was most likely never seen before."""
    return f"1.0.{secrets.randbelow(9000) + 1000}"


def make_repository(folder: Path, version: str) -> None:
    """Commit ``version`` of the shop to a repository made in ``folder``, which is not there yet."""
    shutil.copytree(SOURCE / "shop", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "VERSION").write_text(f"{version}\n")
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", f"Shop {version}"],
    ):
        subprocess.run(["git", *arguments], cwd=folder, env=os.environ | _IDENTITY, check=True)


def declaration(values: Mapping[str, Any]) -> str:
    """``demo.yaml`` with its words filled in; every value is valid YAML as JSON."""
    template = string.Template((SOURCE / "demo.yaml").read_text())
    return template.substitute({name: json.dumps(value) for name, value in values.items()})
