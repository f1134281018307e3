"""Two deployments side by side: what differs is shown, and no secret is."""

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from deployer.models import Deployment, Target
from projects.models import HealthCheck, Project, Variable
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.git import GitRepository

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user("maria"))
    return client


def ended(project: Project, *groups: Any, **values: Any) -> Deployment:
    it = make_deployment(project, *groups)
    it.claim_for_worker()
    it.end(Deployment.Status.SUCCESS)
    Deployment.objects.filter(pk=it.pk).update(**values)
    return it


def page(client: Client, *chosen: Deployment) -> str:
    answer = client.get(reverse("deployment_compare"), {"with": [it.pk for it in chosen]})
    assert answer.status_code == 200
    return answer.content.decode()


def test_settings_that_differ_are_shown_as_they_were_at_each_launch(client: Client) -> None:
    project, group = make_project(build_script="npm run build", script_timeout=60), make_group(make_server())
    HealthCheck.objects.create(project=project, kind="tcp", target="8080")
    first = ended(project, group)
    Project.objects.filter(pk=project.pk).update(build_script="<b>pnpm</b> build")
    HealthCheck.objects.update(target="9090", expect_header="X-Release: 2")
    Project.objects.update(watch_for=44, restart_script="echo again")
    project.services.create(kind="pm2", name="worker")
    project.refresh_from_db()
    html = page(client, ended(project, group), first)
    assert "pm2 worker" in html
    assert "echo again" in html
    assert html.index("npm run build") < html.index("&lt;b&gt;pnpm&lt;/b&gt; build")
    assert html.index("tcp 8080") < html.index("tcp 9090 (expected header X-Release: 2)")
    assert "44" in html
    assert "<b>pnpm" not in html
    assert "Script timeout" not in html


def test_a_secret_is_said_to_have_changed_and_never_shown_wherever_it_stands(client: Client) -> None:
    project, group = make_project(build_script="deploy --token old-secret-1"), make_group(make_server())
    for name, value, is_secret in (("KEY", "old-secret-1", True), ("OPEN", "a", False), ("TURNED", "was-open", False)):
        Variable.objects.create(project=project, name=name, value=value, is_secret=is_secret)
    first = ended(project, group)
    for name, value in (("KEY", "new-secret-2"), ("OPEN", "b"), ("TURNED", "now-secret")):
        row = Variable.objects.get(name=name)
        row.value, row.is_secret = value, name != "OPEN"
        row.save()
    project.build_script = "deploy --token new-secret-2"
    project.save()
    html = page(client, first, ended(project, group))
    assert html.count("changed; its value is not shown") == 2
    for secret in ("old-secret-1", "new-secret-2", "now-secret", "was-open"):
        assert secret not in html
    assert "deploy --token ••••••" in html
    assert "Variable OPEN" in html


def test_servers_are_side_by_side_also_those_of_one_alone(client: Client) -> None:
    one, two, three = (make_server(name=f"web-{number}") for number in (1, 2, 3))
    project, group = make_project(), make_group(one, two, name="web")
    first = ended(project, group)
    first.targets.update(status=Target.Status.FAILED, error="disk full")
    group.servers.set([two, three])
    html = page(client, first, ended(project, group))
    rows = {match[1]: match[0] for match in re.finditer(r'<th scope="row">(web-\d)</th>.*?</tr>', html, re.DOTALL)}
    assert set(rows) == {"web-1", "web-2", "web-3"}
    assert "not included" in rows["web-1"]
    assert "disk full" in rows["web-2"]
    assert "not included" not in rows["web-2"]
    assert "Group web" in html


def test_the_commits_between_are_read_from_the_repository(client: Client, git_repo: GitRepository) -> None:
    from deployer.repositories.mirror import fetch

    project, group = make_project(git_url=git_repo.url), make_group(make_server())
    old = git_repo.head
    new = git_repo.commit({"a": "b"}, "Add <the> cart")
    fetch(project)
    chosen = [ended(project, group, commit_hash=commit).pk for commit in (old, new)]
    html = client.get(reverse("compare_commits"), {"with": chosen}).content.decode()
    assert "1 commit was new" in html
    assert "Add &lt;the&gt; cart" in html
    back = [chosen[1], ended(project, group, commit_hash=old).pk]
    assert "1 commit was rolled back" in client.get(reverse("compare_commits"), {"with": back}).content.decode()


def test_a_deployment_is_compared_with_the_one_of_its_project_before_it(client: Client) -> None:
    project, group = make_project(), make_group(make_server())
    first, second = ended(project, group), ended(project, group)
    ended(make_project(name="other"), group)
    answer = client.get(reverse("deployment_previous", args=[second.pk]))
    assert answer["Location"] == f"{reverse('deployment_compare')}?with={first.pk}&with={second.pk}"
    answer = client.get(reverse("deployment_previous", args=[first.pk]), follow=True)
    assert "there is none before it to compare with" in answer.content.decode()


@pytest.mark.parametrize("chosen", [[], [1], [1, 1], [1, 2, 3], ["x", "2"], ["9" * 30, "1"]])
def test_anything_but_two_is_said_to_be_wrong(client: Client, chosen: list[Any]) -> None:
    answer = client.get(reverse("deployment_compare"), {"with": chosen}, follow=True)
    assert "Choose exactly two deployments" in answer.content.decode()


def test_a_visitor_is_shown_nothing() -> None:
    answer = Client().get(reverse("deployment_compare"), {"with": [1, 2]})
    assert answer["Location"].startswith(reverse("login"))
    assert Client().get(reverse("compare_commits"), {"with": [1, 2]}).content == b""


def test_more_servers_ask_the_database_no_more_often(client: Client) -> None:
    def queries(*servers: Any) -> int:
        project, group = make_project(), make_group(*servers)
        chosen = [ended(project, group), ended(project, group)]
        with CaptureQueriesContext(connection) as seen:
            page(client, *chosen)
        return len(seen)

    assert queries(make_server()) == queries(*(make_server() for _number in range(9)))


def test_a_server_that_was_renamed_between_the_two_is_one_server(client: Client) -> None:
    server = make_server(name="web-old")
    project, group = make_project(), make_group(server)
    first = ended(project, group)
    server.name = "web-new"
    server.save()
    html = page(client, first, ended(project, group))
    assert "not included" not in html
    assert "web-new" in html
