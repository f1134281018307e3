"""Many hands on one deployment at the same moment: one end each, whoever comes first."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from deployer.models import Deployment, Target
from tests.factories import make_deployment, make_group, make_project, make_server
from tests.faults.test_faults import SEED
from tests.marks import rarely

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("races", [200, rarely(500)])
def test_in_hundreds_of_races_of_cancel_against_success_each_has_one_end_that_stays(sshd, queue_server, races):
    project, group = make_project(), make_group(make_server(sshd))
    chance = random.Random(SEED)
    ends: Counter[str] = Counter()

    def together(*racers) -> list[bool]:
        """Each racer in a thread of its own, let go at once; gives who won, in their order."""
        gate = threading.Barrier(len(racers))

        def start(racer) -> bool:
            gate.wait()
            return bool(racer())

        return list(threads.map(start, racers))

    with ThreadPoolExecutor(3) as threads:
        for _race in range(races):
            deployment = make_deployment(project, group, deployment_type="restart_only")
            waits = chance.random() < 0.3  # a cancel against the claim, else against the end
            mine, theirs = (Deployment.objects.get(pk=deployment.pk) for _ in range(2))
            if waits:
                claimed, _cancelled = together(mine.claim_for_worker, theirs.request_cancel)
            else:
                claimed = mine.claim_for_worker()
            if claimed:
                target = mine.targets.get()
                target.deployment = mine
                racers = [
                    lambda mine=mine: mine.end(Deployment.Status.SUCCESS),
                    lambda theirs=theirs: theirs.request_cancel(),
                    lambda target=target: target.move(Target.Status.SUCCESS),
                ]
                together(*chance.sample(racers, 3))
            row = Deployment.objects.get(pk=deployment.pk)
            assert row.status == ("success" if claimed else "cancelled")
            assert row.finished_at is not None
            assert (row.targets.get().status == "cancelled") == (not claimed)
            late = [mine.end(Deployment.Status.FAILED), mine.move(Deployment.Status.RESTARTING), mine.beat()]
            late += [theirs.request_cancel(), theirs.claim_for_worker(), theirs.declare_lost("late")]
            assert not any(late)
            again = Deployment.objects.get(pk=deployment.pk)
            assert (again.status, again.finished_at) == (row.status, row.finished_at)
            ends[again.status] += 1
        together(*[connections.close_all] * 3)
    assert ends.total() == races
