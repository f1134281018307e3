"""The store of releases: what is pruned, and what never is."""

import io
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.utils import timezone

from deployer.launch import wish_to_retry
from deployer.models import Deployment, Release, Target
from deployer.releases import disk_use, prune
from projects.models import Project
from tests.factories import make_deployment, make_group, make_project, make_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project() -> Project:
    return make_project(keep_releases=2, deploy_path="/srv/shop", deploy_script_path="/srv/restart.sh")


def stored(project: Project, version: str, *, state: str = "good", days: int = 0) -> Release:
    release = Release(project=project, version=version, state=state, size=1000)
    release.archive.save(f"{version}.tar.gz", ContentFile(b"x"))
    Release.objects.filter(pk=release.pk).update(created_at=timezone.now() - timedelta(days=days))
    return release


def versions(project: Project) -> list[str]:
    return [release.version for release in Release.objects.stored().filter(project=project).order_by("version")]


def deployed(project: Project, sshd, *moves: tuple[str, str]) -> None:
    """One server on which ``moves`` (before, after) were made, one deployment each."""
    group = make_group(make_server(sshd))
    for before, after in moves:
        deployment = make_deployment(project, group, deployment_type="restart_only")
        deployment.targets.update(release_before=before, release_after=after, status=Target.Status.SUCCESS)
        Deployment.objects.filter(pk=deployment.pk).update(status="success", finished_at=timezone.now())


def test_the_newest_good_ones_stay_and_the_files_of_the_others_are_deleted(project):
    releases = [stored(project, f"r{number}") for number in range(5)]
    gone = prune()
    assert [release.version for release in gone] == ["r0", "r1", "r2"]
    assert versions(project) == ["r3", "r4"]
    assert [release.archive.storage.exists(str(release.archive.name)) for release in releases] == [False] * 3 + [
        True
    ] * 2
    assert Release.objects.count() == 5


def test_after_ten_failed_releases_the_last_good_ones_are_still_there(project):
    stored(project, "a-good")
    stored(project, "b-good")
    for number in range(10):
        stored(project, f"c-bad{number}", state="bad", days=30)
    prune()
    assert versions(project) == ["a-good", "b-good"]


def test_what_is_live_or_previous_on_a_server_stays_however_old(project, sshd, queue_server):
    for number in range(6):
        stored(project, f"r{number}", days=4000)
    deployed(project, sshd, ("r1", "r2"), ("r2", "r2"))  # the second one only restarted
    prune()
    assert versions(project) == ["r1", "r2"]


def test_age_takes_a_good_one_and_an_unproved_one_sooner(project):
    stored(project, "good", days=366)
    stored(project, "new-unproved", state="built", days=13)
    stored(project, "old-unproved", state="built", days=15)
    prune()
    assert versions(project) == ["new-unproved"]


def test_what_a_deployment_that_has_not_ended_will_send_stays(project, sshd, queue_server):
    old = stored(project, "old", state="bad", days=4000)
    deployment = make_deployment(project, make_group(make_server(sshd)), deployment_type="restart_only")
    Deployment.objects.filter(pk=deployment.pk).update(release=old)
    assert prune() == []
    Deployment.objects.filter(pk=deployment.pk).update(finished_at=timezone.now())
    assert prune() == [old]


def test_a_retry_of_a_release_that_is_not_stored_any_more_builds_its_commit_anew(project, sshd, queue_server):
    release = stored(project, "old")
    deployment = make_deployment(project, make_group(make_server(sshd)), deployment_type="restart_only")
    deployment.targets.update(status="failed")
    Deployment.objects.filter(pk=deployment.pk).update(
        release=release, commit_hash="c0ffee", finished_at=timezone.now()
    )
    deployment.refresh_from_db()
    assert wish_to_retry(deployment, created_by=None, trigger="cli").release == release
    Release.objects.update(archive="")
    deployment.refresh_from_db()
    wish = wish_to_retry(deployment, created_by=None, trigger="cli")
    assert (wish.release, wish.branch) == (None, "c0ffee")


def test_the_command_says_what_goes_and_a_dry_run_deletes_nothing(project):
    for number in range(3):
        stored(project, f"r{number}")
    out = io.StringIO()
    call_command("prune", "--dry-run", stdout=out)
    assert "r0" in out.getvalue()
    assert "1 release would be deleted" in out.getvalue()
    assert (versions(project), disk_use()) == (["r0", "r1", "r2"], 3000)
    out = io.StringIO()
    call_command("prune", stdout=out)
    assert "1 release deleted" in out.getvalue()
    assert (versions(project), disk_use()) == (["r1", "r2"], 2000)
