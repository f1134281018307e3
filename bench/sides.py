"""Whose CPU it was: the platform's or the servers', which are both on this machine. Each side is a control group."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

#: Seconds of quiet after which nothing of what was done goes on, and how long that is waited for.
QUIET, PATIENCE = 0.1, 3.0

_numbers = itertools.count(1)


class Side:
    """Processes whose CPU is counted together, with all that they start, however detached.

    ``words`` before a command start it on this side, `take` takes a process that runs. ``cpu`` is in seconds, 0 where
    this machine lets nobody make control groups.
    """

    def __init__(self, name: str) -> None:
        unique = f"deployer-{name}-{os.getpid()}-{next(_numbers)}"
        self._folders = [folder for folder in map(_made, _places(unique)) if folder is not None]
        self._usage, self._unit = _usage(self._folders)
        joins = "".join(f"echo $$ >{folder}/cgroup.procs\n" for folder in self._folders)
        self.words = ("sh", "-c", f'{joins}exec "$@"', "sh")

    @property
    def cpu(self) -> float:
        """Seconds spent until now, also by what has ended."""
        return int(self._usage.read_text().split("\n")[0].split()[-1]) * self._unit if self._usage else 0.0

    def take(self, pid: int) -> None:
        """Count what a process spends from now on."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def limit(self, processors: float) -> bool:
        """Give it so many processors at most. Says whether this machine can."""
        for folder in self._folders:
            with contextlib.suppress(OSError):
                if (folder / "cpu.max").exists():
                    (folder / "cpu.max").write_text(f"{int(100_000 * processors)} 100000")
                    return True
                if (folder / "cpu.cfs_quota_us").exists():
                    (folder / "cpu.cfs_quota_us").write_text(str(int(100_000 * processors)))
                    return True
        return False

    def close(self) -> None:
        """Delete its groups; what still runs in them goes on where it was."""
        for folder in self._folders:
            for pid in (folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):  # it has ended
                    (folder.parent / "cgroup.procs").write_text(pid)
            with contextlib.suppress(OSError):
                folder.rmdir()


def settle(*cpu: Callable[[], float]) -> None:
    """Wait until the sides have nothing to do any more: what ends a deployment goes on a little behind its end."""
    until = time.monotonic() + PATIENCE
    spent = sum(each() for each in cpu)
    while time.monotonic() < until:
        time.sleep(QUIET)
        before, spent = spent, sum(each() for each in cpu)
        if spent - before < QUIET / 50:
            return


def _places(name: str) -> list[Path]:
    """Where groups are made, below the ones that this process is in: the unified tree, and the older trees for CPU."""
    mine = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, place, kind, options = line.split()[:4]
        trees = [tree for tree in mine if tree and set(tree.split(",")) & {"cpu", "cpuacct"} & set(options.split(","))]
        if kind == "cgroup2":
            found.append(Path(place + mine.get("", "")) / name)
        elif kind == "cgroup" and trees:
            found.append(Path(place + mine[trees[0]]) / name)
    return found


def _made(folder: Path) -> Path | None:
    """The folder of a new group, or none where it cannot be made."""
    with contextlib.suppress(OSError):  # no more processors than the others may have, unless that is handed down
        (folder.parent / "cgroup.subtree_control").write_text("+cpu")
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return folder


def _usage(folders: list[Path]) -> tuple[Path | None, float]:
    """The file that counts, and the part of a second that it counts in."""
    for folder in folders:
        if (folder / "cpuacct.usage").exists():
            return folder / "cpuacct.usage", 1e-9
        if "usage_usec" in ((folder / "cpu.stat").read_text() if (folder / "cpu.stat").exists() else ""):
            return folder / "cpu.stat", 1e-6
    return None, 0.0
