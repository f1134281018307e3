"""``python -m tests.security``: the whole table of attacks, one after the other; exit status 1 where one came through.

``--only TEXT`` (may be given again) takes the attacks whose name has it. What could not be tried is named, with why.
"""

import argparse
import os
import sys
import time

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django

django.setup()

from django.conf import settings  # noqa: E402 (Django must be set up)
from django.db import connections  # noqa: E402
from django.test.utils import setup_databases, setup_test_environment, teardown_databases  # noqa: E402

from tests.parts.queue import QueueServer  # noqa: E402
from tests.security import matrix  # noqa: E402
from tests.security.table import Attack, Outcome, by_door, carry_out, is_root, table  # noqa: E402


def tell(each: Attack) -> Outcome:
    """Try an attack, and print what became of it."""
    try:
        outcome = carry_out(each)
    finally:
        connections.close_all()
    mark = "-" if outcome.not_run else "✘" if outcome.through else "✔"
    print(f"{mark} {each}  {outcome.seconds:.1f} s", flush=True)
    print(f"    {outcome.not_run or outcome.through or outcome.happened}", flush=True)
    return outcome


def summary(outcomes: list[Outcome]) -> str:
    """What was refused, by door, and what was not tried."""
    rows = [f"{door:<12} refused {refused} of {tried}" for door, refused, tried in by_door(outcomes)]
    left_out = [f"not tried: {outcome.attack}: {outcome.not_run}" for outcome in outcomes if outcome.not_run]
    through = sum(bool(outcome.through) for outcome in outcomes)
    total = (
        f"attacks: {len(outcomes) - len(left_out)} as {'root' if is_root() else 'an ordinary user'}, through: {through}"
    )
    return "\n".join([*rows, *left_out, *filter(None, [matrix.total()]), total])


def main() -> int:
    """Try what the command line asks for; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.security", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="attacks whose name has this text")
    options = parser.parse_args()
    attacks = [each for each in table() if all(text in str(each) for text in options.only)]
    setup_test_environment()
    databases = setup_databases(verbosity=0, interactive=False)
    queue = QueueServer(settings.QUEUE_SOCKET)
    begun = time.monotonic()
    try:
        outcomes = [tell(each) for each in attacks]
    finally:
        queue.close()
        teardown_databases(databases, verbosity=0)
    print(f"\n{summary(outcomes)}\n{time.monotonic() - begun:.0f} s in all")
    return int(any(outcome.through for outcome in outcomes) or not outcomes)


if __name__ == "__main__":
    sys.exit(main())
