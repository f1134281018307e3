"""``python -m tests.proofs``: the whole table of proofs, several cells at once; exit status 1 where one is wrong.

``--only TEXT`` (may be given again) takes the cells whose name has it. What is missing is named with the command that
installs it, and is wrong too; what this environment does not let run is named, and is not.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django

django.setup()

from django.conf import settings  # noqa: E402 (Django must be set up)
from django.db import connections  # noqa: E402
from django.test.utils import setup_databases, setup_test_environment, teardown_databases  # noqa: E402

from tests.parts.queue import QueueServer  # noqa: E402
from tests.proofs.by_kind import never, services  # noqa: E402
from tests.proofs.cells import Cell, Outcome, run, table  # noqa: E402
from tests.proofs.logs import LogCell, logs, run_log  # noqa: E402

_saying = threading.Lock()


def carry_out(cell: Cell | LogCell) -> Outcome:
    """Run a cell, and tell what became of it."""
    try:
        outcome = run_log(cell) if isinstance(cell, LogCell) else run(cell)
    finally:
        connections.close_all()
    with _saying:
        print(f"{mark(outcome)} {cell}  {outcome.seconds:.1f} s", flush=True)
        print(f"    {outcome.not_run or f'{outcome.said}: {outcome.sentence}'}", flush=True)
        for problem in outcome.problems:
            print(f"    ✘ {problem}", flush=True)
    return outcome


def mark(outcome: Outcome) -> str:
    """One character that says how it went."""
    return "-" if outcome.not_run else "✘" if outcome.problems else "✔"


def as_table(outcomes: list[Outcome]) -> str:
    """A row for each cell."""
    rows = [("", "service", "what happened", "named", "said", "truth")]
    for outcome in outcomes:
        cell = outcome.cell
        said = "not run" if outcome.not_run else outcome.said
        service = cell.row or cell.service
        rows.append((mark(outcome), service, cell.event, cell.name or cell.check, said, outcome.truth))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def summary(outcomes: list[Outcome]) -> str:
    """The numbers below the table, and what was not run, each reason once."""
    done = [outcome for outcome in outcomes if not outcome.not_run]
    lines = [f"cells: {len(done)}, wrong: {sum(bool(outcome.problems) for outcome in done)}"]
    reasons: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.not_run:
            reasons.setdefault(outcome.not_run, []).append(outcome)
    for reason, cells in reasons.items():
        services = dict.fromkeys(outcome.cell.service for outcome in cells)
        lines.append(f"not run: {len(cells)} cells of {', '.join(services)}: {reason}")
    return "\n".join(lines)


def main() -> int:
    """Run what the command line asks for; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="cells whose name has this text")
    parser.add_argument("--kinds", action="store_true", help="the table of services: each kind, and its log")
    parser.add_argument("--at-once", type=int, default=4, help="cells at once (default 4)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    whole: Iterable[Cell | LogCell] = (*services(), *logs()) if options.kinds else table()
    cells = [cell for cell in whole if all(text in str(cell) for text in options.only)]
    setup_test_environment()
    databases = setup_databases(verbosity=0, interactive=False)
    queue = QueueServer(settings.QUEUE_SOCKET)
    begun = time.monotonic()
    try:
        with ThreadPoolExecutor(options.at_once) as pool:
            try:
                outcomes = list(pool.map(carry_out, cells))
            except BaseException:  # those that have begun are left to end what they have started
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        queue.close()
        teardown_databases(databases, verbosity=0)
    if options.kinds:
        print("", *(f"not there: {line}" for line in never()), sep="\n")
    print(f"\n{as_table(outcomes)}\n\n{summary(outcomes)}\n{time.monotonic() - begun:.0f} s in all")
    wrong = any(outcome.problems or (outcome.not_run and outcome.can_run) for outcome in outcomes)
    return int(wrong or not outcomes)


if __name__ == "__main__":
    sys.exit(main())
