"""A user of this machine, made for a test: with a password, a login shell and a home of its own."""

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from tests.parts.programs import kill_all, program
from tests.parts.sshd import OpenSSHServer


class Account:
    """An OS user ``name`` with ``password``, who may log in to ``sshd`` with its key. Only root can make one."""

    def __init__(self, sshd: OpenSSHServer, shell: str = "/bin/sh") -> None:
        self.name = f"deployer-{secrets.token_hex(4)}"
        self.password = secrets.token_hex(12)
        sbin = ("/usr/sbin", "/sbin")
        useradd, self._userdel = program("useradd", "passwd", *sbin), program("userdel", "passwd", *sbin)
        command = [useradd, "--no-create-home", "--home-dir", str(sshd.home), "--shell", shell, self.name]
        subprocess.run(command, check=True, capture_output=True)
        subprocess.run(
            [program("chpasswd", "passwd", *sbin)], input=f"{self.name}:{self.password}", text=True, check=True
        )
        for folder in (sshd.folder, sshd.home):  # sshd looks for the keys as that user
            folder.chmod(0o755)
        shutil.chown(sshd.home, self.name)

    def close(self) -> None:
        """Delete the user, and end what it has running."""
        uid = int(subprocess.run(["id", "-u", self.name], check=True, capture_output=True, text=True).stdout)
        mine = [path for path in Path("/proc").glob("[0-9]*") if _owner(path) == uid]
        kill_all([int(path.name) for path in mine])
        subprocess.run([self._userdel, self.name], check=True, capture_output=True)


def _owner(path: Path) -> int:
    try:
        return path.stat().st_uid
    except OSError:
        return -1


def can_be_made() -> bool:
    """Whether this process may make users."""
    return os.getuid() == 0
