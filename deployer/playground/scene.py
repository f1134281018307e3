"""The parts of the demo and the playground: ports, the servers' program, the shop's repository, the declaration."""

import json
import os
import secrets
import shutil
import socket
import string
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings

from servers.isolation import Network, Sandbox

SOURCE = Path(__file__).resolve().parent
#: The servers' names, and from where their SSH ports and their shops' ports are looked for.
SERVERS = ("web-1", "web-2", "web-3")
SSH_PORT, SHOP_PORT = 2201, 8101
#: Bytes of temporary files on the servers, which are in memory.
_TEMPORARY = 256 << 20

_IDENTITY = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Demo",
    "GIT_AUTHOR_EMAIL": "demo@example.com",
    "GIT_COMMITTER_NAME": "Demo",
    "GIT_COMMITTER_EMAIL": "demo@example.com",
}


class Ports(NamedTuple):
    """Where a server and its shop listen on this machine."""

    ssh: int
    shop: int


#: Where ports are looked for first.
FIRST_PORTS = [Ports(SSH_PORT + index, SHOP_PORT + index) for index in range(len(SERVERS))]


def free_ports(wanted: Sequence[Ports], taken: set[int]) -> list[Ports]:
    """Ports for each server: those ``wanted``, or the next free ones. Adds them to ``taken``, in which none may be."""
    return [Ports(free_port(ssh, taken), free_port(shop, taken)) for ssh, shop in wanted]


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


def write_machines(folder: Path, ports: Sequence[Ports]) -> None:
    """Tell the servers' program their ports."""
    lines = [f"{name}:{ssh}:{shop}\n" for name, (ssh, shop) in zip(SERVERS, ports, strict=True)]
    (folder / "machines").write_text("".join(lines))


def read_machines(folder: Path) -> list[Ports]:
    """The ports of the servers of ``folder``; empty where there were none yet."""
    try:
        rows = [line.split(":") for line in (folder / "machines").read_text().split()]
    except FileNotFoundError:
        return []
    return [Ports(int(ssh), int(shop)) for _name, ssh, shop in rows]


def servers_command(folder: Path) -> list[str]:
    """The command that runs the servers of ``folder``; they listen once there is a file ``ready`` in it.

    They run what is sent to them as this user: in a sandbox, so that it is no way to the data folder and its keys.
    """
    return [sys.executable, str(SOURCE / "servers.py"), str(folder), *(_sandbox(folder) if is_isolated() else [])]


@cache
def is_isolated() -> bool:
    """Whether this machine lets the servers run in a sandbox; found out once, by trying."""
    with tempfile.TemporaryDirectory(prefix="deployer-probe-") as probe:
        folder = Path(probe)
        for name in ("keys", "machines", "repository", "servers"):
            (folder / name).mkdir()
        try:
            tried = subprocess.run([*_sandbox(folder), "/bin/true"], capture_output=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return tried.returncode == 0


def _sandbox(folder: Path) -> list[str]:
    """The words before a command that runs apart from this machine, but for its network.

    It may write the servers' homes alone. `deployer.playground.servers` makes before what is bound here.
    """
    python = [path for path in (sys.prefix, sys.base_prefix) if path not in ("/usr", "/usr/local")]
    packages = [path for path in sys.path if Path(path).name == "site-packages"]
    named = [Path(path) for path in (*python, *packages) if Path(path).is_dir()]
    programs = dict.fromkeys([*named, *(path.resolve() for path in named)])
    inputs = [folder / name for name in ("keys", "machines", "repository")]
    box = Sandbox(
        writable={str(folder / "servers"): folder / "servers"},
        readable=[*programs, SOURCE, *inputs, Path("/etc/passwd"), Path("/etc/group")],
        hidden=[Path(settings.BASE_DIR), Path(settings.DATA_DIR), Path.home()],
        network=Network.HOST,
    )
    environment = {"PATH": box.search_path, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    own = [word for name, value in environment.items() for word in ("--setenv", name, value)]
    # First, for the folder itself may lie in there.
    temporary = ["--size", str(_TEMPORARY), "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108 (inside)
    return ["bwrap", *temporary, *box.arguments({}), *own, "--"]


def declaration(servers: Sequence[str], ports: Sequence[Ports], **words: Any) -> str:
    """``demo.yaml`` with its words filled in; every value is valid YAML as JSON."""
    from deployer.playground.servers import username  # it loads an SSH library that nothing else here needs

    values: dict[str, Any] = {"username": username(), **words}
    for number, (name, (ssh, _shop)) in enumerate(zip(servers, ports, strict=True), start=1):
        values |= {f"server_{number}": name, f"ssh_port_{number}": ssh}
    template = string.Template((SOURCE / "demo.yaml").read_text())
    return template.substitute({name: json.dumps(value) for name, value in values.items()})
