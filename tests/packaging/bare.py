"""A bare Debian that systemd has booted, on which docs/install.md is followed word for word."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.parts.package import HOUSE
from tests.proofs.machines import Booted

PAPER, UPKEEP = HOUSE / "docs" / "install.md", HOUSE / "docs" / "upkeep.md"
#: How this machine reaches packages: where that is said, and what vouches for who answers.
_REACHES = ("/etc/pip.conf", "/etc/xdg/pip", "/usr/local/share/ca-certificates", "/etc/resolv.conf")
_JOURNAL = "journalctl --no-pager --lines 40"
VOUCHERS = Path("/etc/ssl/certs/ca-certificates.crt")


def reaches() -> list[Path]:
    """What of this machine says how packages are reached."""
    links = [Path(word) for word in os.environ.get("PIP_FIND_LINKS", "").split() if Path(word).is_absolute()]
    return [path for path in (*map(Path, _REACHES), *links) if path.exists()]


def steps(part: str, paper: Path = PAPER) -> Iterator[str]:
    """The blocks of a part of the paper, as they stand in it."""
    text = paper.read_text().partition(f"\n## {part}\n")[2].partition("\n## ")[0]
    yield from re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Bare(Booted):
    """The machine, with the wheel in the folder that each login starts in."""

    def __init__(self, wheel: Path) -> None:
        self._wheel = wheel
        super().__init__()
        self.run(f"cp {self.folder}/{wheel.name} /root/")

    def binds(self) -> list[str]:
        """What is handed to it: the wheel, and how to reach packages."""
        shutil.copy(self._wheel, self.folder)
        if VOUCHERS.exists():
            shutil.copy(VOUCHERS, self.folder / "vouchers")
        return [f"--bind-ro={path}" for path in reaches()]

    def run(self, script: str, user: str = "root") -> str:
        """Run a script in a login of ``user``; gives what it printed. It must succeed."""
        told = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        told |= {"PIP_CERT": str(self.folder / "vouchers")} if VOUCHERS.exists() else {}
        told |= {"DEBIAN_FRONTEND": "noninteractive"}
        exports = "".join(f"export {name}='{value}'\n" for name, value in told.items())
        done = subprocess.run(
            [
                *("ssh", "-i", self.folder / "login_key", "-p", str(self.port), "-o", "StrictHostKeyChecking=no"),
                *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", f"{user}@127.0.0.1", "bash -e"),
            ],
            input=f"export HOME=$(getent passwd {user} | cut -d: -f6)\n{exports}{script}",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            journal = "" if script == _JOURNAL else self.run(_JOURNAL)
            raise AssertionError(f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{journal}")
        return done.stdout
