"""Which functions the CPU of a deployment goes to, all threads of its process together, and what it cannot go below."""

import cProfile
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from bench.sides import settle
from tests.parts.programs import HOUSE

if TYPE_CHECKING:
    from projects.models import Project
    from servers.models import Server

#: Lines that are shown.
TOP = 14
#: The product's own floors.
OWN = tuple(f"{HOUSE / name}{os.sep}" for name in ("deployer", "servers", "projects", "people", "pages"))


def profile_functions(project: "Project", servers: Sequence["Server"], there: Callable[[], float]) -> None:
    """Print which functions this process's CPU goes to while it restarts the servers, and what a link alone costs.

    ``there`` are the seconds of CPU of the servers' side.
    """
    from deployer.engine.routines import carry_out
    from deployer.side_by_side import side_by_side
    from servers.ssh.shell import connect
    from tests.factories import make_deployment, make_group

    def log_in(server: "Server") -> None:
        with connect(server) as link:
            link.capture("true")

    size = len(servers)
    deployment = make_deployment(project, make_group(*servers), deployment_type="restart_only")
    with profiled() as profiles:
        carry_out(deployment.pk)
    settle(there)
    _show(profiles, size)
    own, before = time.process_time(), there()
    side_by_side(servers, log_in)
    own = time.process_time() - own
    settle(there)
    figures = f"{1000 * own / size:.1f} ms a server here, {1000 * (there() - before) / size:.1f} ms there"
    print(f"The floor, a login and one short command: {figures}", flush=True)


@contextmanager
def profiled() -> Iterator[list[cProfile.Profile]]:
    """The profiles of this thread and of all threads that are begun and end meanwhile, by their own CPU time."""
    profiles = [cProfile.Profile(time.thread_time)]
    plain = threading.Thread.run

    def run(thread: threading.Thread) -> None:
        profiles.append(profile := cProfile.Profile(time.thread_time))
        profile.runcall(plain, thread)

    with mock.patch.object(threading.Thread, "run", run), profiles[0]:
        yield profiles


def _show(profiles: list[cProfile.Profile], size: int) -> None:
    """Print the functions that take most by themselves, and those of deployer's that take most with all they call."""
    spent: dict[str, float] = defaultdict(float)
    with_calls: dict[str, float] = defaultdict(float)
    for profile in profiles:
        profile.create_stats()
        rows: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = vars(profile)["stats"]
        for (path, _line, function), (_calls, _all, own, whole, _callers) in rows.items():
            name = f"{_place(path)}: {function}"
            spent[name] += own
            if path.startswith(OWN):
                with_calls[name] += whole
    whole = 1000 * sum(spent.values()) / size
    print(f"CPU in ms a server under the profiler, which slows calls: {whole:.1f} in all; by function")
    for found in (spent, with_calls):
        for name, seconds in sorted(found.items(), key=lambda row: -row[1])[:TOP]:
            print(f"  {1000 * seconds / size:8.2f}  {name}")
        if found is spent:
            print("and by deployer's own, with all that they call")


def _place(path: str) -> str:
    """The end of a file's path."""
    place = Path(path)
    return "/".join((place.relative_to(HOUSE) if place.is_relative_to(HOUSE) else place).parts[-3:])
