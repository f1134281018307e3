"""Updates that are put together once: each run is what the same update of Django's would be."""

import threading

import pytest
from django.db import connections, models
from django.db.models.functions import Coalesce

from deployer.models import Deployment, Target
from people.now import Now
from people.statements import KeptUpdate, Slot
from tests.factories import make_deployment, make_group, make_project, make_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def target() -> Target:
    return make_deployment(make_project(), make_group(make_server()), deployment_type="restart_only").targets.get()


def test_slots_are_filled_by_each_run_as_the_field_wants_them(target) -> None:
    values = {name: Slot(name) for name in ("proof", "error", "exit_code", "same_as")}
    update = KeptUpdate(Target.objects.filter(pk=Slot("pk")), values | {"revision": models.F("revision") + 1})
    hostile = "'; DROP TABLE deployer_target; -- %s %(error)s \\\\ 你好"
    for code, proof in ((3, {"said": [hostile]}), (None, {})):
        given = {"proof": proof, "error": hostile, "exit_code": code, "same_as": target}
        assert update.run(pk=target.pk, **given) == 1
        row = Target.objects.get(pk=target.pk)
        assert (row.proof, row.error, row.exit_code, row.same_as_id) == (proof, hostile, code, target.pk)
    assert row.revision == target.revision + 2
    assert update.run(pk=0, **given) == 0


def test_a_kept_statement_is_any_threads(target) -> None:
    update = KeptUpdate(Target.objects.filter(pk=Slot("pk")), {"error": Slot("error")})

    def run() -> None:
        try:
            update.run(pk=target.pk, error="from a thread")
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    target.refresh_from_db()
    assert target.error == "from a thread"


def test_a_move_is_what_the_same_update_of_the_rows_would_be(target) -> None:
    """The moments, the claim and the end: under each of them, the kept statement and Django's write the same."""
    deployment = Deployment.objects.get()
    target.deployment = deployment
    assert not target.move(Target.Status.RESTARTING)  # nobody has it
    assert deployment.claim_for_worker("mine")
    assert target.move(Target.Status.RESTARTING, proof={"each": []}, release_after="r1")
    first = Target.objects.get(pk=target.pk)
    assert (first.status, first.proof, first.release_after) == ("restarting", {"each": []}, "r1")
    assert first.started_at is not None
    assert first.begun_at is not None
    assert first.checking_at is first.finished_at is None
    assert target.move(Target.Status.RESTARTING)
    again = Target.objects.get(pk=target.pk)
    assert (again.started_at, again.begun_at) == (first.started_at, first.begun_at)
    rows = Target.objects.filter(pk=target.pk)
    assert rows.filter(started_at__lte=Now(), begun_at=Coalesce("begun_at", Now())).exists()
    other = Deployment.objects.get()
    other.claim = "another's"
    target.deployment = other
    assert not target.move(Target.Status.CHECKING)
    target.deployment = deployment
    assert target.move(Target.Status.FAILED, error="it broke", exit_code=7)
    ended = Target.objects.get(pk=target.pk)
    assert (ended.status, ended.error, ended.exit_code) == ("failed", "it broke", 7)
    assert ended.finished_at is not None
    assert not target.move(Target.Status.SUCCESS)
