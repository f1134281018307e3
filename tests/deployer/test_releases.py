"""The store of releases: what is pruned, and what never is."""

import io
import tarfile
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.utils import timezone

from deployer.launching.again import request_to_retry
from deployer.launching.asked import LaunchRequest
from deployer.launching.choice import with_release
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.models import Deployment, Release, Target
from deployer.releases.contents import UnsafeArchiveError, check_archive
from deployer.releases.store import disk_use, prune
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
    assert request_to_retry(deployment, created_by=None, trigger="cli").release == release
    Release.objects.update(archive="")
    deployment.refresh_from_db()
    request = request_to_retry(deployment, created_by=None, trigger="cli")
    assert (request.release, request.branch) == (None, "c0ffee")


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


def test_previous_is_what_the_servers_recorded_and_going_back_is_recorded_too(project, sshd, queue_server):
    one = stored(project, "r1")
    stored(project, "r2")
    deployed(project, sshd, ("r1", "r2"), ("r2", "r2"))
    request = LaunchRequest(project, list(Deployment.objects.earliest("pk").server_groups.all()))
    back = launch(with_release(request, "previous", rolls_back=True))
    assert (back.release, back.rollback_from_id) == (one, back.pk - 1)


def test_servers_with_different_previous_releases_have_no_one_previous(project, sshd, queue_server):
    deployed(project, sshd, ("r1", "r3"))
    deployed(project, sshd, ("r2", "r3"))
    groups = [deployment.server_groups.get() for deployment in Deployment.objects.all()]
    with pytest.raises(LaunchRefusedError, match=r"different releases before \(r1, r2\)"):
        with_release(LaunchRequest(project, groups), "previous")


def test_a_release_of_the_same_repository_is_promoted_and_stays_while_it_is_live(sshd, queue_server):
    values = {"git_url": "https://git.example.com/shop.git", "deploy_path": "/srv/x", "deploy_script_path": "/srv/r.sh"}
    staging = make_project(name="staging", keep_releases=1, **values)
    production = make_project(name="production", **values)
    release = stored(staging, "s1", days=4000)
    promoted = launch(with_release(LaunchRequest(production, [make_group(make_server(sshd))]), "s1"))
    assert promoted.release == release
    promoted.targets.update(release_after="s1")
    Deployment.objects.update(finished_at=timezone.now())
    assert prune() == []


@pytest.mark.parametrize(
    ("version", "values", "why"),
    [
        ("nope", {}, "no release “nope”. Stored releases: mine"),
        ("gone", {}, "no longer stored"),
        ("theirs", {}, "another repository"),
        ("previous", {}, "choose which version to go back to"),
        ("mine", {"deployment_type": "restart_only"}, "takes no release"),
        ("mine", {"branch": "main"}, "not both"),
        ("'; rm -rf / #", {}, "no release"),
    ],
)
def test_a_release_that_cannot_be_deployed_is_refused_with_why(project, sshd, queue_server, version, values, why):
    other = make_project(name="other", git_url="https://git.example.com/other.git")
    stored(other, "theirs")
    stored(project, "mine")
    Release.objects.create(project=project, version="gone")
    with pytest.raises(LaunchRefusedError, match=why):
        with_release(LaunchRequest(project, [make_group(make_server(sshd))], **values), version)


def test_the_page_offers_stored_releases_and_launches_one(project, sshd, queue_server, admin_client):
    stored(project, "r1")
    group = make_group(make_server(sshd))
    address = f"/projects/{project.pk}/launch/"
    assert b'<option value="r1" selected>' in admin_client.get(f"{address}?release=r1").content
    sent = {"deployment_type": "full", "branch": "main", "release": "r1", "server_groups": [group.pk]}
    sent["confirm"] = project.name
    answer = admin_client.post(address, sent | {"release": "<b>"})
    assert b"no release \xe2\x80\x9c&lt;b&gt;" in answer.content
    assert admin_client.post(address, sent).status_code == 302
    assert str(Deployment.objects.get().release) == "r1"


def archive_of(path, *members: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)) if member.isfile() else None)


def entry(name: str, **values) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for field, value in values.items():
        setattr(member, field, value)
    return member


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (entry("/etc/cron.d/evil"), "leads out"),
        (entry("a/../../evil"), "leads out"),
        (entry("link", type=tarfile.SYMTYPE, linkname="../../etc/passwd"), "leads out"),
        (entry("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "leads out"),
        (entry("link", type=tarfile.LNKTYPE, linkname="../evil"), "leads out"),
        (entry("disk", type=tarfile.BLKTYPE), "not a file, a folder or a link"),
        (entry("pipe", type=tarfile.FIFOTYPE), "not a file, a folder or a link"),
        (entry("root", mode=0o4755), "setuid"),
        (entry("group", mode=0o2755), "setuid"),
        (entry("two\nlines"), "two.nlines.* control character"),
        (entry("link", type=tarfile.SYMTYPE, linkname="a\x1b[2J"), "control character"),
    ],
    ids=lambda value: repr(value.name) if isinstance(value, tarfile.TarInfo) else None,
)
def test_an_archive_that_could_do_harm_is_refused_and_the_entry_named(tmp_path, member, why):
    archive_of(tmp_path / "release.tar.gz", entry("fine"), member)
    with pytest.raises(UnsafeArchiveError, match=why):
        check_archive(tmp_path / "release.tar.gz")


def test_an_archive_of_usual_things_is_let_through(tmp_path):
    usual = [
        entry("./-rf", size=10),
        entry("./bin/tool", mode=0o755),
        entry("./folder", type=tarfile.DIRTYPE, mode=0o2775),
        entry("./folder/up", type=tarfile.SYMTYPE, linkname="../bin/tool"),
        entry("./hard", type=tarfile.LNKTYPE, linkname="./bin/tool"),
        entry("./ünïcode … name"),
    ]
    archive_of(tmp_path / "release.tar.gz", *usual)
    check_archive(tmp_path / "release.tar.gz")


def test_too_many_files_and_too_many_bytes_are_refused_as_soon_as_they_are_seen(tmp_path, settings):
    settings.DEPLOYER_RELEASE_MAX_FILES = 100
    archive_of(tmp_path / "many.tar.gz", *(entry(f"f{number}") for number in range(101)))
    with pytest.raises(UnsafeArchiveError, match="more than 100 files"):
        check_archive(tmp_path / "many.tar.gz")
    settings.DEPLOYER_RELEASE_MAX_MB = 50
    archive_of(tmp_path / "bomb.tar.gz", entry("zeros", size=51_000_000))
    assert (tmp_path / "bomb.tar.gz").stat().st_size < 1_000_000
    with pytest.raises(UnsafeArchiveError, match="or 50 MB"):
        check_archive(tmp_path / "bomb.tar.gz")
