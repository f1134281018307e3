"""One deployment of a thousand servers: with one worker, two and four, and what a worker needs for it at most.

The workers, the queue, PostgreSQL and all servers are on this machine. So that it is the workers who are the limit, as
they are where each server is a machine of its own, each worker gets a part of a processor, so small that the servers of
two workers still have enough.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.profiles import profile_functions
from bench.sides import Side, settle
from bench.targets import print_line, readme
from tests.parts.postgres import PostgresServer
from tests.parts.programs import HOUSE, wait_until

if TYPE_CHECKING:
    from deployer.models import Deployment
    from servers.models import ServerGroup
    from tests.parts.queue import QueueServer

#: How many there are, and how many of them are looked at for a profile.
SERVERS, QUICK, PROFILED = 1000, 200, 50
#: Megabytes that a worker may take at most, and how much faster two workers must be than one.
MEMORY, FASTER = 400, 1.7
#: The part of the machine that two workers and their servers may want together.
SPARE = 0.8
LIMIT = 900  # seconds for one deployment


def main(_number: int, *, quick: bool) -> None:
    """The table, by a process of its own: its database is PostgreSQL, as it is where there are several machines."""
    server = PostgresServer()
    folder = tempfile.mkdtemp(prefix="deployer-bench-wide-")
    environment = os.environ | {"DEPLOYER_DATA_DIR": folder, "DATABASE_URL": server.url}
    environment["REDIS_URL"] = f"unix://{folder}/queue.sock"
    words = [sys.executable, "-m", "bench.wide", str(QUICK if quick else SERVERS), *["--quick"] * quick]
    try:
        subprocess.run(words, cwd=HOUSE, env=environment, check=True)
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Seen:
    """What one deployment took: seconds, seconds of CPU of both sides; of the largest worker, what it had at most."""

    wall: float = 0.0
    platform: float = 0.0
    servers: float = 0.0
    memory: int = 0
    threads: int = 0
    files: int = 0
    why: str = ""
    """Why it failed, if it did."""

    def look_at(self, pid: int) -> None:
        """Notice what a work horse has now."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            files = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 (only counted)
        except OSError:
            return
        if "VmHWM:" not in status:  # it has ended
            return
        self.memory = max(self.memory, 1024 * int(status.partition("VmHWM:")[2].split()[0]))
        self.threads = max(self.threads, int(status.partition("Threads:")[2].split()[0]))
        self.files = max(self.files, files)


class Workers:
    """Workers that share deployments, each with so many processors; without a limit, with all that there are."""

    def __init__(self, queue: "QueueServer", number: int, processors: float | None) -> None:
        from tests.parts.worker import Worker

        self.sides = [Side(f"worker-{place}") for place in range(number)]
        self._workers: list[Worker] = []
        try:
            for side in self.sides:
                worker = Worker(queue, "default", "slices")
                self._workers.append(worker)
                side.take(worker.process.pid)
            wait_until(lambda: all(worker.is_idle for worker in self._workers), "workers that wait for work")
            if processors is not None and not all(side.limit(processors) for side in self.sides):
                print("    (this machine limits nobody's CPU: the servers may be what limits)", flush=True)
        except BaseException:
            self.close()
            raise

    @property
    def cpu(self) -> float:
        return sum(side.cpu for side in self.sides)

    @property
    def horses(self) -> list[int]:
        return [pid for worker in self._workers for pid in worker.horses]

    def close(self) -> None:
        """Stop them."""
        for worker in self._workers:
            worker.stop()
        for side in self.sides:
            side.close()


class Wide:
    """A project on many light servers, and what carries it out."""

    def __init__(self, size: int) -> None:
        from bench.light import LightServers
        from tests.factories import make_group, make_project
        from tests.parts.queue import QueueServer

        self.side = Side("servers")
        self.queue = QueueServer(Path(os.environ["DEPLOYER_DATA_DIR"]) / "queue.sock")
        self.light = LightServers(size, "echo restarted\n", self.side.words)
        self.group: ServerGroup = make_group(*self.light.servers)
        self.project = make_project(deploy_path="~/shop", deploy_script_path="~/restart.sh")

    def close(self) -> None:
        """Stop everything."""
        self.light.close()
        self.queue.close()
        self.side.close()

    def deploy(self, number: int, processors: float | None = None) -> Seen:
        """Restart it on all servers with so many workers; a failure is told, and no reason to stop."""
        with self._working(number, processors) as workers:
            seen = Seen()
            platform, servers, begun = workers.cpu, self.side.cpu, time.perf_counter()
            deployment = self._launch()
            for pids in _until_it_ends(deployment, workers):
                for pid in pids:
                    seen.look_at(pid)
            seen.wall = time.perf_counter() - begun
            settle(lambda: workers.cpu, lambda: self.side.cpu)
            seen.platform, seen.servers = workers.cpu - platform, self.side.cpu - servers
            seen.why = _why(deployment)
        return seen

    def _launch(self) -> "Deployment":
        from tests.factories import make_deployment

        return make_deployment(self.project, self.group, deployment_type="restart_only")

    @contextmanager
    def _working(self, number: int, processors: float | None) -> Iterator[Workers]:
        workers = Workers(self.queue, number, processors)
        try:
            yield workers
        finally:
            workers.close()


def _until_it_ends(deployment: "Deployment", workers: Workers) -> Iterator[list[int]]:
    """Again and again the pids of the work horses, until the deployment has ended or too much time has passed."""
    until = time.monotonic() + LIMIT
    while deployment.finished_at is None and time.monotonic() < until:
        time.sleep(0.1)
        yield workers.horses
        deployment.refresh_from_db(fields=["status", "finished_at", "error_message"])


def _why(deployment: "Deployment") -> str:
    """Why it has failed; nothing of one that went well."""
    if deployment.status == deployment.Status.SUCCESS:
        return ""
    failed = deployment.targets.exclude(status="success")
    messages = sorted(set(failed.values_list("error", flat=True)))
    return f"{deployment.status}, {failed.count()} servers: {deployment.error_message} {' | '.join(messages)}"[:600]


def benchmark(size: int, *, quick: bool) -> None:
    """All that is measured on the database that the settings name."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    place = Wide(size)
    try:
        print(f"\nOne deployment of {size:,} light servers on PostgreSQL")
        head = f"{'wall s':>8}{'ratio':>7}{'platform':>11}{'servers':>9}{'MB':>6}{'threads':>9}{'files':>7}"
        print(f"  {'':48}{head}   CPU in ms a server")
        free = place.deploy(1)
        _show("1 worker", free, free, size)
        if not quick:
            _show("2 workers", place.deploy(2), free, size)
        share = _share(free)
        print(f"  each worker on {share:.2f} of a processor, so that the platform is the limit:", flush=True)
        found = {number: place.deploy(number, share) for number in (1, 2, 4)}
        for number, seen in found.items():
            _show(f"{number} worker{'s' * (number > 1)}", seen, found[1], size)
        if not _judge(size, free, found):
            profile_functions(place.project, place.light.servers[:PROFILED], lambda: place.side.cpu)
    finally:
        place.close()


def _judge(size: int, free: Seen, found: dict[int, Seen]) -> bool:
    """Hold what was found against the targets; says whether all of them are met."""
    faster = found[1].wall / found[2].wall
    went_well = not any(seen.why for seen in (free, *found.values()))
    print_line(f"{size:,} servers: every deployment went well", "yes" if went_well else "no", "yes", went_well)
    figure = f"{found[1].wall:.1f} s / {found[2].wall:.1f} s = {faster:.2f}"
    print_line(f"{size:,} servers with two workers: as fast as with one", figure, f"{FASTER}", faster >= FASTER)
    megabytes = free.memory / 1e6
    print_line(f"memory of a worker at {size:,} servers", f"{megabytes:.0f} MB", f"{MEMORY} MB", megabytes <= MEMORY)
    own = f"{free.wall:.0f} s, {megabytes:.0f} MB"
    readme(f"restart on {size:,} light servers with one worker", own, f"two workers {faster:.1f} times as fast")
    return went_well and faster >= FASTER and megabytes <= MEMORY


def _show(what: str, seen: Seen, beside: Seen, size: int) -> None:
    each = f"{1000 * seen.platform / size:>11.1f}{1000 * seen.servers / size:>9.1f}"
    figures = f"{seen.wall:>8.1f}{beside.wall / seen.wall:>7.2f}{each}{seen.memory / 1e6:>6.0f}"
    print(f"  {what:48}{figures}{seen.threads:>9}{seen.files:>7}", flush=True)
    if seen.why:
        print(f"    {seen.why}", flush=True)


def _share(free: Seen) -> float:
    """The processors of one worker at which two, with what their servers need meanwhile, leave a part unused."""
    processors = os.cpu_count() or 1
    if not free.platform or not free.servers:
        return processors
    return min(1.0, SPARE * processors / 2 / (1 + free.servers / free.platform))


if __name__ == "__main__":
    import django

    django.setup()
    benchmark(int(sys.argv[1]), quick="--quick" in sys.argv)
