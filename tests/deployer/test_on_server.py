"""A server's page: what runs there, and which releases are on its disk."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from deployer.models import Deployment, Sighting
from people.models import Entry
from projects.commands import disk
from projects.models import Project
from servers.models import Server
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

VERSIONS = ["20260101-1", "20260102-2", "20260103-3"]


def deployed(server: Server, path: Path, versions: Sequence[str] = VERSIONS, **values: Any) -> Project:
    """A project whose ``versions`` were deployed to ``server`` one after the other, and that lies at ``path``."""
    project, group = make_project(deploy_path=str(path), service_name="shop", **values), make_group(server)
    for before, after in zip(["", *versions], versions, strict=False):
        deployment = make_deployment(project, group)
        now = timezone.now()
        times = {"begun_at": now, "started_at": now, "finished_at": now}
        deployment.targets.update(status="success", release_before=before, release_after=after, **times)
        Deployment.objects.filter(pk=deployment.pk).update(status="success", finished_at=now)
    return project


def on_disk(path: Path) -> None:
    for version in [*VERSIONS, "<b>odd & name"]:
        (path / "releases" / version).mkdir(parents=True)
        (path / "releases" / version / "file").write_bytes(b"x" * 50_000)
    (path / "releases" / ".deleted.old.1").mkdir()
    (path / "current").symlink_to(f"releases/{VERSIONS[2]}")


def test_a_look_tells_the_releases_on_the_disk_and_changes_nothing(client: Client, sshd: Any, tmp_path: Path) -> None:
    server = make_server(sshd, name="web-1")
    project = deployed(server, tmp_path / "shop", name="shop")
    on_disk(tmp_path / "shop")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    client.force_login(make_user("ada"))
    page = client.get(reverse("server", args=[server.pk])).content.decode()
    assert "What is here" in page
    assert VERSIONS[2] in page
    assert VERSIONS[1] in page
    assert VERSIONS[0] not in page
    assert f"{reverse('project_logs', args=[project.pk])}?server={server.pk}" in page
    for headers in ({}, {"HX-Request": "true"}):
        answer = client.post(reverse("server_look", args=[server.pk]), headers=headers)
        text = answer.content.decode()
        assert ("<h1" in text) is not bool(headers)
        assert all(version in text for version in VERSIONS)
        assert "&lt;b&gt;odd &amp; name" in text
        assert "<b>odd" not in text
        assert ".deleted" not in text
        assert "KB" in text.replace("\xa0", " ")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert Sighting.objects.get(project=project, server=server).release == VERSIONS[2]
    assert Entry.objects.filter(act="tested", kind__endswith="server", number=server.pk).count() == 2


def test_a_server_that_does_not_answer_says_why(client: Client) -> None:
    server = make_server(name="web-1", host="127.0.0.1", port=1)
    deployed(server, Path("/srv/shop"))
    client.force_login(make_user("ada"))
    text = client.post(reverse("server_look", args=[server.pk])).content.decode()
    assert "notice-error" in text
    assert VERSIONS[2] in text
    server.refresh_from_db()
    assert server.connection_status == "offline"


def test_only_those_who_may_are_offered_it_or_answered(client: Client) -> None:
    server = make_server(name="web-1")
    deployed(server, Path("/srv/shop"))
    client.force_login(make_member("viewer"))
    page = client.get(reverse("server", args=[server.pk])).content.decode()
    assert "What is here" in page
    assert reverse("server_look", args=[server.pk]) not in page
    assert client.post(reverse("server_look", args=[server.pk])).status_code == 403
    client.force_login(make_user("ada"))
    Server.objects.update(is_active=False)
    assert (
        reverse("server_look", args=[server.pk]) not in client.get(reverse("server", args=[server.pk])).content.decode()
    )
    assert client.post(reverse("server_look", args=[server.pk])).status_code == 404


def test_many_projects_are_told_by_as_many_queries_as_one(client: Client) -> None:
    server = make_server(name="web-1")
    client.force_login(make_user("ada"))
    asked = []
    for number in (1, 30):
        for count in range(number):
            deployed(server, Path("/srv/shop"), ["1", "2"], name=f"shop-{number}-{count}")
        client.get(reverse("server", args=[server.pk]))
        with CaptureQueriesContext(connection) as queries:
            page = client.get(reverse("server", args=[server.pk])).content.decode()
        asked.append(len(queries))
    assert asked[0] == asked[1]
    assert "and 6 more projects" in page


def test_the_question_is_answered_of_each_path_in_its_order(tmp_path: Path) -> None:
    on_disk(tmp_path / "shop")
    (tmp_path / "new" / "releases").mkdir(parents=True)
    paths = [str(tmp_path / name) for name in ("none", "shop", "new")]
    answer = subprocess.run(["sh"], input=disk.question(paths), capture_output=True, text=True, check=True).stdout
    none, shop, new = disk.read(answer, 3)
    assert (none, new) == (disk.Disk(), disk.Disk(is_there=True))
    assert [it.version for it in shop.releases] == ["<b>odd & name", *reversed(VERSIONS)]
    assert [it.version for it in shop.releases if it.is_live] == [VERSIONS[2]]
    assert all(it.size > 50_000 for it in shop.releases)


def test_what_a_server_makes_up_is_bounded() -> None:
    many = "".join(f"R {number:09}\n" for number in range(100_000))
    text = f"P 0\nC releases/{'0' * 9}\n{many}P 7\nR x\nP -1\nS 1\nR \x1b[31mred\n"
    (found,) = disk.read(text, 1)
    assert len(found.releases) == disk.MOST + 1
    assert found.releases[-1].is_live
    (found,) = disk.read(f"P 0\nR \x1b[31m{'x' * 9999}\nS 99999999999999999999 y\nS 999999999999999\tno\n", 1)
    assert len(found.releases) == 1
    assert len(found.releases[0].version) <= 255
    assert "\x1b" not in found.releases[0].version
