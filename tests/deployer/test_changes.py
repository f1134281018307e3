"""What changes: the commits that a launch brings, takes back and leaves out, on servers as they are."""

import re
import shutil
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from deployer.board.sightings import refresh
from deployer.engine.routines import carry_out
from deployer.models import Deployment, Release
from deployer.repositories.changes import SHOWN, changes_of_deployment, changes_of_launch
from deployer.repositories.mirror import fetch, mirror_of
from projects.models import Project
from servers.errors import NotReadyError
from servers.models import Server
from tests.factories import make_credential, make_deployment, make_group, make_project, make_server
from tests.marks import rarely

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


@pytest.fixture
def project(git_repo, tmp_path: Path) -> Project:
    (tmp_path / "restart.sh").write_text("echo fine")
    return make_project(
        git_url=git_repo.url, deploy_path=str(tmp_path / "shop"), deploy_script_path=str(tmp_path / "restart.sh")
    )


@pytest.fixture
def server(sshd) -> Server:
    return make_server(sshd, name="web-1")


def deployed(project: Project, server: Server, **values) -> Deployment:
    deployment = make_deployment(project, make_group(server), **values)
    assert carry_out(deployment.pk)
    deployment = Deployment.objects.get(pk=deployment.pk)
    assert deployment.status == "success", deployment.error_message
    return deployment


def released(project: Project, server: Server) -> str:
    release = deployed(project, server).release
    assert release is not None
    return release.version


def subjects(commits) -> list[str]:
    return [commit.subject for commit in commits.newest]


def test_a_launch_brings_what_the_branch_has_and_the_server_has_not(project, server, git_repo, queue_server):
    deployed(project, server)
    git_repo.commit({"a": "1"}, "Second\n\nwith a body")
    git_repo.commit({"b": "1"}, "Third")
    before = changes_of_launch(project, "", "", [server.pk])
    assert before.steps[0].added.count == 0  # as the mirror was when it was fetched
    fetch(project)
    found = changes_of_launch(project, "main", "", [server.pk])
    assert found.head == git_repo.head
    assert [(step.servers, step.problem) for step in found.steps] == [(["web-1"], "")]
    step = found.steps[0]
    assert (subjects(step.added), step.removed.count, found.left_out.count) == (["Third", "Second"], 0, 0)
    assert (step.added.newest[0].author, step.added.newest[0].hash) == ("Ada", git_repo.head)
    earlier = changes_of_launch(project, git_repo.git("rev-parse", "HEAD^"), "", [server.pk])
    assert (subjects(earlier.steps[0].added), subjects(earlier.left_out)) == (["Second"], ["Third"])


def test_going_back_takes_commits_back_and_the_branch_has_more(project, server, git_repo, queue_server):
    first = released(project, server)
    git_repo.commit({"a": "1"}, "Second")
    deployed(project, server)
    found = changes_of_launch(project, "", first, [server.pk])
    step = found.steps[0]
    assert (step.added.count, subjects(step.removed), subjects(found.left_out)) == (0, ["Second"], ["Second"])


def test_servers_that_run_different_releases_are_shown_apart(project, server, sshd, git_repo, queue_server, tmp_path):
    other, third = make_server(sshd, name="web-2"), make_server(sshd, name="web-3")
    deployed(project, server)
    git_repo.commit({"a": "1"}, "Second")
    deployed(project, other)
    git_repo.commit({"b": "1"}, "Third")
    fetch(project)
    found = changes_of_launch(project, "main", "", [server.pk, other.pk, third.pk])
    assert [(step.servers, step.added.count, bool(step.problem)) for step in found.steps] == [
        (["web-3"], 0, True),
        (["web-1"], 2, False),
        (["web-2"], 1, False),
    ]


def test_a_deployment_shows_what_it_has_changed_however_often_others_follow(project, server, git_repo, queue_server):
    first = deployed(project, server)
    git_repo.commit({"a": "1"}, "Second")
    second = deployed(project, server)
    git_repo.commit({"b": "1"}, "Third")
    deployed(project, server)
    assert subjects(changes_of_deployment(second).steps[0].added) == ["Second"]
    assert subjects(changes_of_deployment(second).left_out) == ["Third"]
    assert "no earlier release is on record" in changes_of_deployment(first).steps[0].problem


def failed_build(project, server) -> Deployment:
    Project.objects.filter(pk=project.pk).update(build_script="exit 7")
    deployment = make_deployment(Project.objects.get(pk=project.pk), make_group(server))
    assert carry_out(deployment.pk)
    Project.objects.filter(pk=project.pk).update(build_script="")
    deployment = Deployment.objects.get(pk=deployment.pk)
    assert deployment.status == "failed"
    return deployment


@pytest.mark.parametrize("remembered", [True, rarely(False)])
def test_what_fails_before_any_server_is_compared_with_what_ran_when_it_was_launched(
    project, server, git_repo, queue_server, admin_client, remembered
):
    deployed(project, server)
    git_repo.commit({"a": "1"}, "Second")
    failed = failed_build(project, server)
    git_repo.commit({"b": "1"}, "Third")
    deployed(project, server)
    if not remembered:  # as those were that were launched before it was
        failed.targets.update(release_at_launch="")
    step = changes_of_deployment(failed).steps[0]
    assert (subjects(step.added), step.removed.count, step.stays) == (["Second"], 0, True)
    answer = admin_client.get(reverse("deployment_changes", args=[failed.pk])).content.decode()
    assert "1 commit would have been new" in answer
    assert "No server was changed." in answer
    assert "rolled back" not in answer
    assert 'class="removed"' not in answer
    assert "No server was changed." in admin_client.get(failed.get_absolute_url()).content.decode()


def test_what_was_seen_counts_more_than_what_was_left(project, server, git_repo, queue_server, admin_client, tmp_path):
    first = deployed(project, server)
    git_repo.commit({"a": "1"}, "Second")
    second = deployed(project, server)
    current = tmp_path / "shop" / "current"
    current.unlink()
    current.symlink_to(f"releases/{first.release}")  # somebody does it by hand
    refresh(project)

    step = changes_of_launch(project, "main", "", [server.pk]).steps[0]
    assert (step.version, subjects(step.added)) == (str(first.release), ["Second"])
    group = second.server_groups.get()
    asked = {"deployment_type": "full", "branch": "main", "server_groups": [group.pk]}
    page = admin_client.get(reverse("launch_changes", args=[project.pk]), asked).content.decode()
    assert "the same commit" not in page
    form = admin_client.get(reverse("deployment_rollback", args=[second.pk])).content.decode()
    assert f"runs {first.release} already" in form
    rows = admin_client.get(reverse("releases", args=[project.pk])).content.decode()
    assert "previously on" not in rows

    waiting = make_deployment(project, group)
    assert waiting.targets.get().release_at_launch == str(first.release)
    waiting.request_cancel()
    assert subjects(changes_of_deployment(deployed(project, server)).steps[0].added) == ["Second"]
    assert changes_of_launch(project, "main", "", [server.pk]).steps[0].added.count == 0  # changed since it was seen


def test_many_commits_are_counted_and_the_newest_shown(project, server, git_repo, queue_server):
    deployed(project, server)
    for number in range(SHOWN + 3):
        git_repo.commit({}, f"Commit {number}")
    fetch(project)
    added = changes_of_launch(project, "main", "", [server.pk]).steps[0].added
    assert (added.count, len(added.newest), added.more) == (SHOWN + 3, SHOWN, 3)
    assert added.newest[0].subject == f"Commit {SHOWN + 2}"


def test_what_is_not_known_is_said(project, server, git_repo, queue_server):
    assert "not been fetched" in changes_of_launch(project, "main", "", [server.pk]).problem
    version = released(project, server)
    assert "no stored release “nope”" in changes_of_launch(project, "", "nope", []).problem
    Release.objects.update(commit_hash="")
    assert "uploaded" in changes_of_launch(project, "", version, []).problem
    assert "commit is not known" in changes_of_launch(project, "main", "", [server.pk]).steps[0].problem
    Release.objects.update(commit_hash="0123456789012345678901234567890123456789")
    assert "no longer in the repository" in changes_of_launch(project, "main", "", [server.pk]).steps[0].problem
    for hostile in ("--output=/tmp/pwned", "main;id", "$(id)", "main..x", "-x", "@{u}", "a\nb"):
        assert "was not in the repository" in changes_of_launch(project, hostile, "", [server.pk]).problem


def test_a_repository_that_cannot_be_fetched_is_named_and_its_login_is_not_shown(project, git_repo):
    credential = make_credential(password="s3cret-token")
    shutil.rmtree(git_repo.path)
    Project.objects.update(git_credential=credential)
    project.refresh_from_db()
    with pytest.raises(NotReadyError, match="could not be fetched: there is no such repository"):
        fetch(project)
    with mirror_of(project) as mirror:
        assert mirror.secrets == ["s3cret-token"]
        assert (Path(mirror.env["GIT_ASKPASS"]).stat().st_mode & 0o777) == 0o700
    assert not Path(mirror.env["GIT_ASKPASS"]).exists()
    Project.objects.update(git_url="--upload-pack=touch /tmp/pwned")
    project.refresh_from_db()
    with pytest.raises(NotReadyError, match="could not be fetched"):
        fetch(project)
    assert not any(settings.MIRRORS_DIR.glob("*pwned*"))


def test_the_launch_page_shows_it_and_fetches_on_request(project, server, git_repo, queue_server, admin_client):
    deployed(project, server)
    git_repo.commit({"a": "1"}, "Add <script>alert(1)</script> & more")
    group = project.deployments.get().server_groups.get()
    asked = {"deployment_type": "full", "branch": "main", "server_groups": [group.pk]}
    address = reverse("launch_changes", args=[project.pk])
    page = admin_client.get(reverse("launch", args=[project.pk])).content.decode()
    assert f'hx-get="{address}"' in page
    assert "the same commit" in admin_client.get(address, asked).content.decode()
    fetched = admin_client.post(reverse("launch_fetch", args=[project.pk]), asked).content.decode()
    assert "1 commit is new" in fetched
    assert "Add &lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in fetched
    assert "What changes" not in admin_client.get(address, asked | {"deployment_type": "restart_only"}).content.decode()
    shutil.rmtree(git_repo.path)
    assert (
        "could not be fetched" in admin_client.post(reverse("launch_fetch", args=[project.pk]), asked).content.decode()
    )


def test_the_launch_page_proposes_branches_and_tags(project, git_repo, admin_client):
    git_repo.tag("v1")
    git_repo.branch('quote"&<b>')
    git_repo.commit({}, "newer")
    address = reverse("launch_names", args=[project.pk])
    assert 'role="option"' not in admin_client.get(address).content.decode()
    fetch(project)
    page = admin_client.get(address).content.decode()
    names = [part.split('"')[0] for part in page.split('data-branch="')[1:]]
    assert (sorted(names[:2]), names[2:3]) == (["main", "quote&quot;&amp;&lt;b&gt;"], ["v1"])


def test_the_launch_page_proposes_commits_and_releases(project, server, git_repo, queue_server, admin_client):
    for subject in ("Cache the list", "Answer <b>in JSON", "Log less"):
        git_repo.commit({}, subject)
    fetch(project)
    Release.objects.create(project=project, version="v7", commit_hash="7" * 40, commit_message="Seven", archive="x")
    Release.objects.create(project=project, version="gone", commit_message="Not stored any more")
    address = reverse("launch_names", args=[project.pk])

    def proposed(part: str) -> tuple[list[str], list[str]]:
        page = admin_client.get(address, {"branch": part}).content.decode()
        assert "<b>" not in page
        commits = re.findall(r'id="commit-\d+" data-branch="(\w+)"', page)
        return commits, re.findall(r'data-release="([^"]*)"', page)

    commits, releases = proposed("")
    assert (commits[0], len(commits), releases) == (git_repo.head, 4, ["v7"])
    assert proposed("JSON") == ([commits[1]], [])
    assert proposed(git_repo.head[:7]) == ([git_repo.head], [])
    assert proposed("seven") == ([], ["v7"])
    assert proposed("7777777") == ([], ["v7"])
    for hostile in ("--output=/tmp/pwned", "$(id)", "main..x", "a\0b"):
        assert proposed(hostile) == ([], [])


def test_the_deployment_page_asks_for_it_until_it_is_known(project, server, queue_server, admin_client):
    waiting = make_deployment(project, make_group(server))
    address = reverse("deployment_changes", args=[waiting.pk])
    assert f'hx-get="{address}"' in admin_client.get(waiting.get_absolute_url()).content.decode()
    assert "every 3s" in admin_client.get(address).content.decode()
    carry_out(waiting.pk)
    answer = admin_client.get(address).content.decode()
    assert "every 3s" not in answer
    assert "web-1" in answer


@pytest.mark.every_case
def test_more_servers_ask_the_database_no_more_often(project, server, sshd, queue_server):
    deployed(project, server)
    counts = []
    for servers in ([server], [server, *(make_server(sshd) for _number in range(5))]):
        with CaptureQueriesContext(connection) as queries:
            changes_of_launch(project, "main", "", [each.pk for each in servers])
        counts.append(len(queries))
    assert counts[0] == counts[1]
