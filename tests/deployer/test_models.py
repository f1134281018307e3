"""What the database itself holds to, whoever writes."""

import pytest
from django.db import IntegrityError, connection, transaction

from deployer.models import Deployment
from projects.models import Project
from tests.factories import make_project

pytestmark = pytest.mark.django_db


def deployment_of(project: Project, status: str) -> Deployment:
    """A row as a launch would write it, past all that a launch refuses."""
    return Deployment.objects.create(project=project, environment=project.environment, status=status)


@pytest.mark.parametrize("status", ["pending", "deploying", "interrupted"])
def test_a_second_active_deployment_of_a_project_is_refused(status: str) -> None:
    project = make_project()
    deployment_of(project, "pending")
    with pytest.raises(IntegrityError), transaction.atomic():
        deployment_of(project, status)
    deployment_of(make_project(), status)


def test_deployments_that_stand_in_line_are_beside_an_active_one_and_none_of_them_starts_beside_it() -> None:
    project = make_project()
    deployment_of(project, "restarting")
    line = [deployment_of(project, status) for status in ("queued", "waiting", "queued", "waiting")]
    for each in line:
        with pytest.raises(IntegrityError), transaction.atomic():
            Deployment.objects.filter(pk=each.pk).update(status="pending")
    Deployment.objects.filter(status="restarting").update(finished_at=each.created_at, status="success")
    assert Deployment.objects.filter(pk=each.pk).update(status="pending") == 1


def test_the_active_ones_are_found_by_an_index() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan TO off")  # which is quicker as long as there are few
    # In no order: of a table without rows, the key that is in order is as quick.
    assert "open_deployments" in Deployment.objects.active().order_by().explain()
    running = Deployment.objects.running().order_by().explain()
    assert "open_deployments" in running or "one_active_deployment_of_a_project" in running
