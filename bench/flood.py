"""A script that prints more than can be written down at once: lines a second, memory, and what others notice of it.

Beside it, what reads the same lines over ssh into a file, and into rows of SQLite as Python writes them; neither masks
anything, shows a line while it comes, or goes on after a lost link.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.targets import print_line
from tests.parts.postgres import PostgresServer
from tests.parts.programs import HOUSE

if TYPE_CHECKING:
    from bench.world import World
    from deployer.models import Deployment
    from tests.parts.worker import Worker

TEN_MILLION = "seq 10000000", 10_000_000
#: Lines of 150 bytes.
WIDE = "seq -f '%08.0f {}' 2000000".format("x" * 140), 2_000_000
QUICK = "seq 300000", 300_000
#: Megabytes that a worker may take at most, and how much slower the polls of others may be.
MEMORY, SLOWER = 200, 2.0
#: A worker is looked for after so many seconds without a sign of life.
SILENT = 30
INTO_ROWS = """\
import itertools, sqlite3, sys
rows = sqlite3.connect(sys.argv[1], isolation_level=None)
rows.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE line (id INTEGER PRIMARY KEY,"
    "deployment INTEGER, number INTEGER, stream TEXT, content TEXT, timestamp TEXT);"
    "CREATE INDEX line_of_deployment ON line (deployment, id);")
insert = "INSERT INTO line (deployment, number, stream, content, timestamp) VALUES (1, ?, 'stdout', ?, 'now')"
lines = enumerate(sys.stdin, 1)
while batch := list(itertools.islice(lines, 5000)):
    rows.execute("BEGIN IMMEDIATE")
    rows.executemany(insert, batch)
    rows.execute("COMMIT")
"""


def main(_number: int, *, quick: bool) -> None:
    """The tables for SQLite and for PostgreSQL, each by a process of its own."""
    server = PostgresServer()
    try:
        for name, url in (("SQLite", ""), ("PostgreSQL", server.url)):
            folder = tempfile.mkdtemp(prefix="deployer-bench-flood-")
            environment = os.environ | {"DEPLOYER_DATA_DIR": folder, "DATABASE_URL": url}
            environment["DEPLOYER_LOG_MAX_MB"] = "10000"  # all of it is to be written
            environment["REDIS_URL"] = f"unix://{folder}/queue.sock"
            words = [sys.executable, "-m", "bench.flood", name, *["--quick"] * quick]
            try:
                subprocess.run(words, cwd=HOUSE, env=environment, check=True)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        server.close()


@dataclass
class Noticed:
    """What was seen while the flood was read: bytes of memory, seconds."""

    memory: int = 0
    silent: float = 0.0
    polls: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)


def benchmark(name: str, *, quick: bool) -> None:
    """All that is measured on the database that the settings name."""
    from django.core.management import call_command

    from bench.world import World
    from tests.parts.queue import QueueServer
    from tests.parts.worker import Worker

    call_command("migrate", verbosity=0)
    queue = QueueServer(Path(os.environ["DEPLOYER_DATA_DIR"]) / "queue.sock")
    worker = Worker(queue)
    place = World(1)
    try:
        full = [TEN_MILLION, WIDE] if name == "SQLite" else [WIDE]
        for text, lines in [QUICK] if quick else full:
            print(f"\nA script that prints {lines:,} lines: {text[:60]}; {name}")
            table(place, worker, text, lines)
            if name == "SQLite":
                others(place, text, lines)
    finally:
        place.close()
        worker.stop()
        queue.close()


def table(place: "World", worker: "Worker", text: str, lines: int) -> None:
    """What deployer makes of it."""
    from deployer.models import Deployment
    from tests.factories import make_deployment, make_project

    script = place.sshds[0].home / "restart.sh"
    script.write_text("seq 1000\n")
    project = make_project(deploy_script_path=str(script), script_timeout=3600)
    quiet = make_deployment(project, place.group, deployment_type="restart_only")
    watch(quiet, worker, quiet)
    before = Noticed()
    for _round in range(300):
        notice(quiet, before)
    script.write_text(f"{text}\n")
    begun = time.perf_counter()
    flood = make_deployment(project, place.group, deployment_type="restart_only")
    noticed = watch(flood, worker, quiet)
    took = time.perf_counter() - begun
    flood.refresh_from_db()
    said = flood.get_status_display() if flood.status != Deployment.Status.SUCCESS else "success"
    print_line(
        "how it ended, and how fast",
        f"{said}, {took:.1f} s, {lines / took:,.0f} lines a second",
        "success",
        said == "success",
    )
    whole = is_whole(flood, lines)
    print_line("every line once, in order", "yes" if whole else "no", "yes", whole)
    megabytes = noticed.memory / 1e6
    print_line(
        "memory of the process that carries it out, at most", f"{megabytes:.0f} MB", f"{MEMORY} MB", megabytes <= MEMORY
    )
    print_line("longest time without a sign of life", f"{noticed.silent:.1f} s", f"{SILENT} s", noticed.silent < SILENT)
    quick, slow = (1000 * statistics.median(each.polls) for each in (before, noticed))
    figure = f"{slow:.2f} ms / {quick:.2f} ms = {slow / quick:.2f}"
    print_line("polls of another deployment, meanwhile / before", figure, f"{SLOWER:.2f}", slow / quick <= SLOWER)
    p95 = 1000 * sorted(noticed.writes)[int(0.95 * len(noticed.writes))]
    print(f"  writes of others meanwhile: p50 {1000 * statistics.median(noticed.writes):.1f} ms, p95 {p95:.1f} ms")


def watch(deployment: "Deployment", worker: "Worker", other: "Deployment") -> Noticed:
    """Wait for the end of ``deployment``, and notice how the worker and ``other`` fare."""
    from deployer.models import Deployment
    from people.now import Now

    noticed = Noticed()
    rows = Deployment.objects.filter(pk=deployment.pk).annotate(now=Now())
    while True:
        finished_at, sign, now = rows.values_list("finished_at", "heartbeat_at", "now").get()
        if finished_at is not None:
            return noticed
        if sign is not None:
            noticed.silent = max(noticed.silent, (now - sign).total_seconds())
        for pid in worker.horses:
            noticed.memory = max(noticed.memory, peak_memory(pid))
        for _time in range(5):
            notice(other, noticed)


def notice(other: "Deployment", noticed: Noticed) -> None:
    """Poll another deployment for its news, and write something that has nothing to do with the log."""
    from deployer.log.reading import News
    from deployer.models import Deployment

    time.sleep(0.02)
    begun = time.perf_counter()
    News.of(other.pk, 0)
    noticed.polls.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    Deployment.objects.filter(pk=other.pk).update(commit_message=str(begun))
    noticed.writes.append(time.perf_counter() - begun)


def peak_memory(pid: int) -> int:
    """Bytes that a process has taken at most; none if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def is_whole(flood: "Deployment", lines: int) -> bool:
    """Whether the log has each line once, in its place: both scripts begin each with its number."""
    contents = flood.log_lines.filter(stream="stdout").order_by("id").values_list("content", flat=True)
    number = 0
    for number, content in enumerate(contents.iterator(chunk_size=5000), 1):
        if int(content[:8].split(" ")[0]) != number:
            return False
    return number == lines


def others(place: "World", text: str, lines: int) -> None:
    """The same lines by ssh, into a file and into rows."""
    sshd = place.sshds[0]
    from bench.world import SSH_OPTIONS

    login = f"-i {sshd.folder}/login_key -p {sshd.port} {sshd.username}@{sshd.host}"
    ssh = f"ssh {SSH_OPTIONS} {login} sh {sshd.home}/restart.sh"
    (place.folder / "into_rows.py").write_text(INTO_ROWS)
    ways = {
        "ssh into a file": f"{ssh} >lines",
        "ssh into rows of SQLite, by executemany": f"{ssh} | {sys.executable} into_rows.py rows",
    }
    for way, command in ways.items():
        begun = time.perf_counter()
        subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=place.folder, check=True)
        took = time.perf_counter() - begun
        print(f"  {way:54}{f'{took:.1f} s, {lines / took:,.0f} lines a second':>50}", flush=True)
    for path in place.folder.glob("rows*"):
        path.unlink()


if __name__ == "__main__":
    import django

    django.setup()
    benchmark(sys.argv[1], quick="--quick" in sys.argv)
