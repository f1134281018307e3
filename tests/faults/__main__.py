"""``python -m tests.faults``: the whole fault suite, several cells at once; prints a table, exit status 1 for a fault.

``SEED=n`` repeats a run, ``--only TEXT`` (may be given again) takes the cells whose name has it.
Each process has a database, a queue server and SSH servers of its own; the one for faults of the database
has a PostgreSQL server too.
"""

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import IO, Any

#: In the order of a deployment.
PHASES = [
    *("waiting", "connect", "cloning", "building", "staging", "unpacking", "prepare", "before_all", "before", "files"),
    *("switching", "switched", "restarting", "flooding", "checking", "after", "after_all"),
]


def carry_out(on_postgres: bool) -> int:
    """A process of the suite: run the cells whose names come in, one a line, and print what became of them."""
    postgres = None
    if on_postgres:
        from tests.parts.postgres import PostgresServer

        postgres = PostgresServer()
        os.environ["TEST_DATABASE_URL"] = postgres.url
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    from django.conf import settings
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases

    from tests.faults.cells import Cell, run
    from tests.parts.queue import QueueServer

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what else prints does not disturb the answers
    setup_test_environment()
    databases = setup_databases(verbosity=0, interactive=False)
    queue = QueueServer(settings.QUEUE_SOCKET)
    try:
        for line in sys.stdin:
            queue.start()
            queue.client.flushall()
            seed, *cell = json.loads(line)
            answers.write(json.dumps(run(Cell(*cell), seed, queue, postgres).to_json()) + "\n")
    finally:
        queue.close()
        teardown_databases(databases, verbosity=0)
        if postgres is not None:
            postgres.close()
    return 0


def cells_and_database_cells() -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Every cell, asked of a process that has Django."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    from tests.faults.cells import database_matrix, matrix

    return [tuple(cell) for cell in matrix()], [tuple(cell) for cell in database_matrix()]


class Suite:
    """The processes that carry cells out, and what they report."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.outcomes: list[dict[str, Any]] = []
        self._saying = threading.Lock()

    def work(self, cells: "SimpleQueue[tuple[str, ...]]", on_postgres: bool) -> None:
        """Take cells until there are none."""
        while not cells.empty():
            with tempfile.TemporaryFile("w+") as errors:
                self._work(cells, on_postgres, errors)

    def _work(self, cells: "SimpleQueue[tuple[str, ...]]", on_postgres: bool, errors: IO[str]) -> None:
        """Start a process and feed it until it ends or there are no more cells."""
        command = [sys.executable, "-m", "tests.faults", "--carry-out", *["--postgres"] * on_postgres]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            while True:
                try:
                    cell = cells.get_nowait()
                except Empty:
                    return
                process.stdin.write(json.dumps([self.seed, *cell]) + "\n")
                answer = process.stdout.readline()
                if not answer:
                    process.wait()
                    errors.seek(0)
                    last = [line for line in errors.read().splitlines() if line.strip()][-1:]
                    self._report({"cell": cell, "problems": [f"the process of the suite ended: {last}"]})
                    return
                self._report(json.loads(answer))

    def _report(self, outcome: dict[str, Any]) -> None:
        with self._saying:
            self.outcomes.append(outcome)
            mark = "-" if outcome.get("not_run") else "✘" if outcome["problems"] else "✔"
            print(f"{mark} {' · '.join(outcome['cell'])}  {outcome.get('seconds', 0):.1f} s", flush=True)
            for problem in outcome["problems"]:
                print(f"    {problem}", flush=True)
            if outcome.get("not_run"):
                print(f"    not run: {outcome['not_run']}", flush=True)


def table(outcomes: Iterable[dict[str, Any]]) -> str:
    """Survived of all, by fault and phase."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for outcome in outcomes:
        if not outcome.get("not_run"):
            fault, phase, _type = outcome["cell"]
            counts[fault, phase][0] += not outcome["problems"]
            counts[fault, phase][1] += 1
    faults = list(dict.fromkeys(fault for fault, _phase in sorted(counts)))
    phases = [phase for phase in PHASES if any(phase == known for _fault, known in counts)]
    rows = [["fault", *phases]]
    for fault in faults:
        cells = [counts.get((fault, phase)) for phase in phases]
        rows.append([fault, *(f"{cell[0]}/{cell[1]}" if cell else "" for cell in cells)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)


def summary(outcomes: list[dict[str, Any]]) -> str:
    """The numbers below the table."""

    def total(name: str) -> int:
        return sum(outcome.get(name, 0) for outcome in outcomes)

    run = [outcome for outcome in outcomes if not outcome.get("not_run")]
    trees = [outcome for outcome in run if ": " in outcome["cell"][0]]
    seconds = sorted(outcome["seconds"] for outcome in run if outcome.get("seconds"))
    lines = [f"faults survived: {sum(not outcome['problems'] for outcome in run)} of {len(run)}"]
    if seconds:
        p95 = seconds[min(len(seconds) - 1, int(len(seconds) * 0.95))]
        lines.append(
            f"seconds to the end: median {statistics.median(seconds):.1f}, p95 {p95:.1f}, max {seconds[-1]:.1f}"
        )
    lines.append(f"lines lost: {total('lost')} of {total('lines')}, doubled: {total('doubled')}")
    lines.append(f"runs executed twice: {total('executed_twice')}")
    lines.append(
        f"processes left: {total('left')}, after cancel and force of {len(trees)} kinds of trees"
        f" (out of reach by nature: {total('out_of_reach')})"
    )
    lines += [f"not run: {' · '.join(o['cell'])}: {o['not_run']}" for o in outcomes if o.get("not_run")]
    return "\n".join(lines)


def main() -> int:
    """Run what the command line asks for; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="cells whose name has this text")
    parser.add_argument("--processes", type=int, default=4, help="cells at once (default 4)")
    parser.add_argument("--carry-out", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--postgres", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.carry_out:
        return carry_out(options.postgres)
    seed = int(os.environ.get("SEED") or secrets.randbelow(10**6))
    print(f"SEED={seed}", flush=True)
    suite = Suite(seed)
    threads = []
    for cells, on_postgres, processes in zip(
        cells_and_database_cells(), (False, True), (options.processes, 1), strict=True
    ):
        chosen = [cell for cell in cells if all(text in " · ".join(cell) for text in options.only)]
        waiting: SimpleQueue[tuple[str, ...]] = SimpleQueue()
        for cell in chosen:
            waiting.put(cell)
        for _number in range(min(processes, len(chosen))):
            threads.append(threading.Thread(target=suite.work, args=[waiting, on_postgres]))
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"\n{table(suite.outcomes)}\n\n{summary(suite.outcomes)}")
    print(f"SEED={seed}, {time.monotonic() - begun:.0f} s in all")
    return int(not suite.outcomes or any(outcome["problems"] for outcome in suite.outcomes))


if __name__ == "__main__":
    sys.exit(main())
