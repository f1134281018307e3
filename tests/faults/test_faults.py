"""A short form of the fault suite: quick cells of the matrix, drawn by SEED; `make faults` runs all of them."""

import os
import random

import pytest

from tests.faults.cells import (
    BEFORE_ALL_FAILS,
    FEW,
    HANDS,
    LINK,
    PLACE_TWICE,
    QUEUE,
    STOP,
    TREES,
    WORKER,
    Cell,
    matrix,
    run,
)
from tests.marks import on_each_database

pytestmark = pytest.mark.django_db(transaction=True)

SEED = int(os.environ.get("SEED", "1"))
#: These wait for time limits: they are left to the long form.
LONG = {"link frozen", "link slow"}


def drawn() -> list[Cell]:
    """A cell of each family of faults, as the seed wants it."""
    chance = random.Random(SEED)
    trees = {f"{word}: {tree}" for word in ("cancel", "force") for tree in TREES}
    families = [(set(LINK) - LONG, 3), (set(WORKER), 3), (set(QUEUE), 1), (trees, 2), ({"disk full"}, 1)]
    families += [(set(HANDS), 2), ({PLACE_TWICE}, 1)]
    families += [(set(STOP), 1), ({FEW}, 1), ({f"force: {FEW}"}, 1)]
    families += [({BEFORE_ALL_FAILS, f"{BEFORE_ALL_FAILS}, work horse killed"}, 1)]
    cells = list(matrix())
    return [
        cell for faults, count in families for cell in chance.sample([c for c in cells if c.fault in faults], count)
    ]


#: What happens to workers and to the queue: how that ends may depend on the database, and is tried on each kind.
OF_WORKERS = {*WORKER, *QUEUE, PLACE_TWICE, f"{BEFORE_ALL_FAILS}, work horse killed"}


@pytest.mark.any_database
@pytest.mark.parametrize(
    "cell", [on_each_database(cell) if cell.fault in OF_WORKERS else cell for cell in drawn()], ids=str
)
def test_what_deployer_says_is_true_after(cell, queue_server):
    outcome = run(cell, SEED, queue_server)
    if outcome.not_run:
        pytest.skip(outcome.not_run)
    assert not outcome.problems
