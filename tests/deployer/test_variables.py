"""Variables by place, from what is set to what a script on each server sees, and what the launch asks for."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from deployer.board.history import changes_of_variables
from deployer.declaring.export import as_yaml
from deployer.declaring.reading import DeclarationError, DeclarationFile
from deployer.declaring.writing import apply
from deployer.engine.routines import carry_out
from deployer.gates.digest import Content
from deployer.launching.again import launch_rollback, retry_failed
from deployer.launching.asked import LaunchRequest
from deployer.launching.launch import launch
from deployer.launching.rules import LaunchRefusedError
from deployer.log.masking import MASK
from deployer.models import Deployment, LogLine
from deployer.plan import Plan
from people.entries import Entry
from people.models import ApiToken
from projects.models import AttachedSet, Project, SetVariable, Variable, VariableSet
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_member, make_project, make_server, make_user
from tests.parts.sshd import OpenSSHServer

pytestmark = pytest.mark.django_db(transaction=True)

#: What a script sees of the variables of these tests.
SHOW = "env | grep -E '^(PORT|ROLE|REGION|TOKEN|DEBUG)=' | sort\n"


def show(home: Path) -> str:
    path = home / "restart.sh"
    path.write_text(SHOW)
    return str(path)


def make_set(name: str, position: int, project: Project, **values: str) -> VariableSet:
    made = VariableSet.objects.create(name=name, environment="production")
    for key, value in values.items():
        SetVariable.objects.create(variable_set=made, name=key, value=value)
    AttachedSet.objects.create(project=project, variable_set=made, position=position)
    return made


def plan_of(deployment: Deployment) -> Plan:
    assert deployment.plan is not None
    return Plan.from_json(deployment.plan)


def seen(deployment: Deployment) -> dict[str, dict[str, str]]:
    """What the script on each server has shown, by the server's name."""
    found: dict[str, dict[str, str]] = {}
    for line in LogLine.objects.filter(deployment=deployment, stream="stdout").select_related("target"):
        assert line.target is not None
        name, _sign, value = line.content.partition("=")
        found.setdefault(line.target.server_name, {})[name] = value
    return found


def restarted(project: Project, *groups: ServerGroup, **values: Any) -> Deployment:
    deployment = make_deployment(project, *groups, deployment_type="restart_only", **values)
    assert carry_out(deployment.pk)
    ended = Deployment.objects.get(pk=deployment.pk)
    assert ended.status == "success", ended.error_message
    return ended


def test_each_server_sees_the_value_of_the_most_specific_place(make_sshd: Any, tmp_path: Path) -> None:
    one, two = make_server(make_sshd(), name="one"), make_server(make_sshd(), name="two")
    web, other = make_group(one, two, name="web"), make_group(two, name="other")
    project = make_project(deploy_script_path=show(tmp_path))
    project.server_groups.set([web])
    make_set("first", 1, project, REGION="first", ROLE="first")
    make_set("last", 2, project, REGION="last")
    for values in (
        {"name": "PORT", "value": "1"},
        {"name": "PORT", "value": "2", "server_group": web},
        {"name": "PORT", "value": "3", "server": two, "scope": "deploy"},
        {"name": "TOKEN", "value": "hunter2-of-one", "server": one, "is_secret": True},
        {"name": "DEBUG", "value": "never", "server_group": other},
    ):
        Variable.objects.create(project=project, **values)
    deployment = restarted(project, web)
    assert seen(deployment) == {
        "one": {"PORT": "2", "REGION": "last", "ROLE": "first", "TOKEN": MASK},
        "two": {"PORT": "3", "REGION": "last", "ROLE": "first"},
    }


def test_two_names_of_one_machine_are_told_apart_by_their_values(sshd: OpenSSHServer, tmp_path: Path) -> None:
    one, two = make_server(sshd, name="one"), make_server(sshd, name="two")
    project, group = make_project(deploy_script_path=show(tmp_path)), make_group(one, two)
    for server in (one, two):
        Variable.objects.create(project=project, name="PORT", value=server.name, server=server)
    deployment = restarted(project, group)
    ((name, values),) = seen(deployment).items()
    assert values == {"PORT": name}
    warned = LogLine.objects.filter(deployment=deployment, level="warning", content__contains="PORT")
    assert warned.get().content.endswith(f"those of {name} count there: PORT")


def test_a_launch_to_another_group_gives_the_values_of_the_projects_groups(sshd: OpenSSHServer, tmp_path: Path) -> None:
    one = make_server(sshd, name="one")
    own, other = make_group(one, name="own"), make_group(one, name="other")
    project = make_project(deploy_script_path=show(tmp_path), may_launch_elsewhere=True)
    project.server_groups.set([own])
    Variable.objects.create(project=project, name="ROLE", value="own", server_group=own)
    Variable.objects.create(project=project, name="ROLE", value="other", server_group=other)
    assert seen(restarted(project, other, elsewhere=True)) == {"one": {"ROLE": "own"}}


def test_two_groups_that_differ_are_refused_by_their_names_before_anything_is_written() -> None:
    server = make_server(name="web-1")
    one, two = make_group(server, name="one"), make_group(server, name="two")
    project = make_project()
    for group in (one, two):
        Variable.objects.create(project=project, name="PORT", value=group.name, server_group=group)
    with pytest.raises(LaunchRefusedError) as refused:
        make_deployment(project, one)
    for word in ("“one”", "“two”", "PORT", "web-1"):
        assert word in refused.value.message
    assert not Deployment.objects.exists()
    Variable.objects.create(project=project, name="PORT", value="its own", server=server)
    plan = Plan.from_json(json.loads(json.dumps(make_deployment(project, one).plan)))
    assert plan.variables_for("deploy", server.pk) == {"PORT": "its own"}


def test_a_question_is_answered_at_launch_and_kept_by_retry_and_rollback(
    make_sshd: Any, git_repo: Any, tmp_path: Path
) -> None:
    sshd: OpenSSHServer = make_sshd()
    git_repo.commit({"restart.sh": SHOW + "! [ -e ~/fail ]\n"})
    group = make_group(make_server(sshd, name="one"))
    project = make_project(git_url=git_repo.url, deploy_path="~/shop", deploy_script_path="restart.sh")
    Variable.objects.create(project=project, name="ROLE", is_prompt=True, choices="blue\ngreen")
    Variable.objects.create(project=project, name="DEBUG", value="no", is_prompt=True)
    Variable.objects.create(project=project, name="ROLE", value="server", server=group.servers.get())

    def ended(deployment: Deployment) -> Deployment:
        assert carry_out(deployment.pk)
        return Deployment.objects.get(pk=deployment.pk)

    first = ended(make_deployment(project, group, answers={"ROLE": "green"}))
    assert seen(first) == {"one": {"ROLE": "green", "DEBUG": "no"}}, first.error_message
    git_repo.commit({"VERSION": "2"})
    (sshd.home / "fail").touch()
    second = ended(make_deployment(project, group, answers={"ROLE": "blue", "DEBUG": "yes"}))
    assert second.status == "failed"
    (sshd.home / "fail").unlink()
    retried = ended(retry_failed(second, created_by=None, trigger="cli"))
    assert seen(retried) == {"one": {"ROLE": "blue", "DEBUG": "yes"}}
    back = ended(launch_rollback(retried, created_by=None, trigger="cli"))
    assert seen(back) == {"one": {"ROLE": "blue", "DEBUG": "yes"}}


def test_a_rollback_takes_the_values_of_today_and_offers_those_that_went_with_its_release(
    sshd: OpenSSHServer, git_repo: Any
) -> None:
    git_repo.commit({"restart.sh": SHOW})
    group = make_group(make_server(sshd, name="one"))
    project = make_project(git_url=git_repo.url, deploy_path="~/shop-of-values", deploy_script_path="restart.sh")
    role = Variable.objects.create(project=project, name="ROLE", value="old")
    deployed = []
    for value in ("old", "new"):
        role.value = value
        role.save()
        git_repo.commit({"VERSION": value})
        deployed.append(make_deployment(project, group))
        assert carry_out(deployed[-1].pk)
    first, second = deployed
    second.refresh_from_db()
    page = of(make_user()).get(reverse("deployment_rollback", args=[second.pk])).content.decode()
    assert f"as they were with #{first.pk}" in page
    assert "old → new" in " ".join(page.split())
    for former, value in ((False, "new"), (True, "old")):
        back = launch_rollback(second, created_by=None, trigger="cli", former_values=former)
        assert carry_out(back.pk)
        assert seen(back) == {"one": {"ROLE": value}}
        back.delete()


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        ({}, "ROLE"),
        ({"ROLE": ""}, "ROLE"),
        ({"ROLE": "red"}, "blue, green"),
        ({"ROLE": "blue", "ROLL": "1"}, "“ROLL”"),
        ({"ROLE": "blue", "PORT": "1"}, "“PORT”"),
        ({"ROLE": "blue", "DEBUG": "a\0b"}, "DEBUG"),
        ({"ROLE": "blue", "DEBUG": "x" * 10_001}, "DEBUG"),
    ],
)
def test_an_answer_that_is_missing_or_not_taken_is_refused_by_its_name(answers: dict[str, str], named: str) -> None:
    project = make_project()
    Variable.objects.create(project=project, name="ROLE", is_prompt=True, choices="blue\ngreen")
    Variable.objects.create(project=project, name="DEBUG", value="no", is_prompt=True)
    Variable.objects.create(project=project, name="PORT", value="80")
    with pytest.raises(LaunchRefusedError) as refused:
        make_deployment(project, make_group(make_server()), answers=answers)
    assert named in refused.value.message
    assert refused.value.field == "answers"


def test_a_question_for_the_build_is_not_asked_where_nothing_is_built() -> None:
    project, group = make_project(), make_group(make_server())
    Variable.objects.create(project=project, name="ROLE", is_prompt=True, scope="build")
    with pytest.raises(LaunchRefusedError, match="ROLE"):
        make_deployment(project, group)
    assert make_deployment(project, group, deployment_type="restart_only").pk


def test_an_automatic_rollback_runs_with_the_values_that_were_live_before(make_sshd: Any, git_repo: Any) -> None:
    sshd: OpenSSHServer = make_sshd()
    git_repo.commit({"restart.sh": SHOW})
    server = make_server(sshd, name="one")
    project = make_project(
        git_url=git_repo.url, deploy_path="~/shop", deploy_script_path="restart.sh", auto_rollback=True
    )
    group = make_group(server)
    role = Variable.objects.create(project=project, name="ROLE", value="old", server=server)
    Variable.objects.create(project=project, name="TOKEN", value="hunter2-of-old", is_secret=True)
    first = make_deployment(project, group)
    assert carry_out(first.pk)
    git_repo.commit({"restart.sh": SHOW + '[ "$ROLE" = old ]\n'})
    role.value = "new"
    role.save()
    Variable.objects.filter(name="TOKEN").delete()
    second = make_deployment(project, group)
    assert carry_out(second.pk)
    target = second.targets.get()
    assert target.status == "rolled_back", target.error
    lines = [*LogLine.objects.filter(deployment=second).order_by("pk").values_list("content", flat=True)]
    assert [line for line in lines if line.startswith(("ROLE=", "TOKEN="))] == ["ROLE=new", "ROLE=old", f"TOKEN={MASK}"]
    assert any(f"#{first.pk}" in line for line in lines)


def test_an_approval_is_for_the_values_of_every_server_and_for_the_answers() -> None:
    one = make_server(name="one")
    group, project = make_group(one), make_project()

    def digest(**values: Any) -> str:
        deployment = launch(LaunchRequest(project, [group], "restart_only", trigger="cli", **values))
        try:
            return Content.of(deployment).digest()
        finally:
            deployment.request_cancel()

    plain = digest()
    value = Variable.objects.create(project=project, name="PORT", value="1", server=one)
    placed = digest()
    value.value = "2"
    value.save()
    other = digest()
    Variable.objects.create(project=project, name="ROLE", value="x", is_prompt=True)
    asked, answered = digest(), digest(answers={"ROLE": "y"})
    assert len({plain, placed, other, asked, answered}) == 5


def test_a_plan_for_500_servers_is_small() -> None:
    servers = [make_server(name=f"web-{number}") for number in range(500)]
    group, project = make_group(*servers), make_project()
    for number in range(20):
        Variable.objects.create(project=project, name=f"V{number}", value="all")
        Variable.objects.create(project=project, name=f"V{number}", value="group", server_group=group)
    Variable.objects.bulk_create(
        Variable(project=project, name="PORT", value=str(server.pk), server=server) for server in servers
    )
    plan = Plan.of(project, [group])
    assert len(json.dumps(plan.to_json())) < 110_000
    assert plan.variables_for("deploy", servers[7].pk)["PORT"] == str(servers[7].pk)


# --- files -----------------------------------------------------------------------------------------

FILE = """
groups:
  - {name: web, environment: production}
variable_sets:
  - name: eu
    environment: production
    variables:
      - {name: REGION, value: eu}
      - {name: TOKEN, value: hunter2, is_secret: true}
  - {name: all, variables: []}
projects:
  - name: shop
    environment: production
    deploy_script_path: /srv/restart.sh
    server_groups: [web]
    variable_sets: [eu, all]
    variables:
      - {name: PORT, value: "1"}
      - {name: PORT, value: "2", server_group: web}
      - {name: ROLE, is_prompt: true, choices: "blue\\ngreen"}
"""


def declare(text: str, **values: Any) -> list[str]:
    return [str(change) for change in apply([DeclarationFile("f", text.encode(), Path())], **values)]


def test_places_questions_and_sets_are_declared_exported_and_declared_again() -> None:
    make_server(name="web-1")
    said = declare(FILE)
    assert "hunter2" not in "".join(said)
    project = Project.objects.get()
    assert [str(row) for row in project.attached_sets.all()] == ["eu", "all"]
    assert declare(FILE) == []
    exported = as_yaml(project)
    assert "server_group: web" in exported
    assert "variable_sets:" in exported
    assert declare(exported) == []
    changed = FILE.replace("[eu, all]", "[all, eu]").replace('"2", server_group: web', '"3", server_group: web')
    assert "variables.PORT (web).value: 2 → 3" in declare(changed)[0]
    assert [str(row) for row in project.attached_sets.all()] == ["all", "eu"]
    values = Plan.of(project, []).values
    assert {name: each.value.value for name, each in values.on(None).items()}["REGION"] == "eu"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[eu, all]", "[eu, none]", "there is no variable set “none”"),
        ("server_group: web}", "server_group: other}", "there is no server group “other”"),
        ("server_group: web}", "server_group: web, scope: build}", "one build"),
        ("name: eu\n    environment: production", "name: eu\n    environment: staging", "another environment"),
        ("server_groups: [web]", "server_groups: [db]", "does not belong to the group “web”"),
        ("{name: REGION, value: eu}", "{name: REGION}", "expected one of value"),
        ("{name: REGION, value: eu}", "{name: REGION, value: eu, server: x}", "there is no such key"),
    ],
)
def test_what_does_not_fit_is_refused_whole(old: str, new: str, told: str) -> None:
    make_group(name="db")
    with pytest.raises(DeclarationError) as refused:
        declare(FILE.replace(old, new))
    assert told in str(refused.value)
    assert not Project.objects.exists()


def test_two_groups_that_differ_are_refused_in_files_too() -> None:
    server = make_server(name="web-1")
    make_group(server, name="db")
    make_group(server, name="web")
    text = FILE.replace("server_groups: [web]", "server_groups: [web, db]")
    text += '      - {name: PORT, value: "9", server_group: db}\n'
    with pytest.raises(DeclarationError, match=r"“db” and “web”.*web-1"):
        declare(text)


def test_a_file_attaches_a_set_only_by_who_may_edit_it() -> None:
    make_group(name="web")
    declare(FILE)
    project = Project.objects.get()
    AttachedSet.objects.all().delete()
    maintainer = make_member("maintainer", project=project.pk)
    text = FILE[FILE.index("projects:") :]
    with pytest.raises(DeclarationError, match="variable set"):
        declare(text, acting=maintainer)
    assert not AttachedSet.objects.exists()


# --- pages, API, command line ------------------------------------------------------------------------


def of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def asking() -> tuple[Project, ServerGroup]:
    """A project that asks for a role and for a secret, and the group that it goes to."""
    group = make_group(make_server(name="web-1"), name="web")
    project = make_project(name="shop", environment="staging")
    ServerGroup.objects.update(environment="staging")
    Variable.objects.create(project=project, name="ROLE", is_prompt=True, choices="blue\ngreen")
    Variable.objects.create(project=project, name="TOKEN", is_prompt=True, is_secret=True, value="hunter2-default")
    return project, group


def test_the_form_asks_and_says_of_each_answer_what_is_wrong(asking: tuple[Project, ServerGroup]) -> None:
    project, group = asking
    client, address = of(make_user()), reverse("launch", args=[project.pk])
    page = client.get(address).content.decode()
    assert 'name="answer-ROLE"' in page
    assert "hunter2-default" not in page
    sent = {"deployment_type": "restart_only", "server_groups": [group.pk], "answer-TOKEN": "hunter2-typed"}
    refused = client.post(address, sent).content.decode()
    assert "It has no default: give an answer." in refused
    assert "hunter2-typed" not in refused
    assert "Select a valid choice" in client.post(address, sent | {"answer-ROLE": "red"}).content.decode()
    assert client.post(address, sent | {"answer-ROLE": "green"}).status_code == 302
    it = Deployment.objects.get()
    assert plan_of(it).variables_for("deploy") == {"ROLE": "green", "TOKEN": "hunter2-typed"}
    it.request_cancel()
    again = client.get(reverse("deployment_again", args=[it.pk]))["Location"]
    assert "answer-ROLE=green" in again
    assert "hunter2" not in again
    assert '<option value="green" selected>' in client.get(again).content.decode()
    entry = Entry.objects.get(act="launched")
    assert entry.after["answers"]["ROLE"] == "green"
    assert entry.after["answers"]["TOKEN"].startswith("secret ")


def test_the_api_tells_the_questions_takes_answers_and_refuses_others_by_name(
    asking: tuple[Project, ServerGroup],
) -> None:
    project, group = asking
    token = ApiToken(name="t", user=make_user())
    client = Client(headers={"Authorization": f"Bearer {token.renew()}"})
    token.save()
    told = client.get(f"/api/v1/projects/{project.pk}").json()["questions"]
    assert told == client.get("/api/v1/projects").json()["items"][0]["questions"]
    assert [(each["name"], each["choices"], each["default"]) for each in told] == [
        ("ROLE", ["blue", "green"], None),
        ("TOKEN", [], ""),
    ]
    body = {"project_id": project.pk, "server_group_ids": [group.pk], "deployment_type": "restart_only"}

    def post(**answers: str) -> Any:
        return client.post("/api/v1/deployments", body | {"answers": answers}, content_type="application/json")

    for answers, named in [({}, "ROLE"), ({"ROLE": "blue", "ROLL": "x"}, "ROLL"), ({"ROLE": "red"}, "blue, green")]:
        refused = post(**answers)
        assert (refused.status_code, refused.json()["field"]) == (422, "answers")
        assert named in refused.json()["detail"]
    assert post(ROLE="blue").status_code == 201
    Variable.objects.create(project=project, name="PORT", value="2", server=group.servers.get())
    found = client.get(f"/api/v1/projects/{project.pk}/variables?server=web-1").json()
    assert [(each["name"], each["value"], each["origin"], each["origin_name"]) for each in found] == [
        ("PORT", "2", "server", "web-1"),
        ("ROLE", "", "project", ""),
        ("TOKEN", None, "project", ""),
    ]
    assert client.get(f"/api/v1/projects/{project.pk}/variables?server=nope").status_code == 404


def test_the_command_line_sets_answers(asking: tuple[Project, ServerGroup]) -> None:
    _project, group = asking
    call_command("deploy", "shop", "--group", group.name, "--type", "restart_only", "--set", "ROLE=green")
    assert plan_of(Deployment.objects.get()).variables_for("deploy")["ROLE"] == "green"
    with pytest.raises(CommandError, match="ROLL"):
        call_command("deploy", "shop", "--group", group.name, "--type", "restart_only", "--set", "ROLL=1")


def test_pages_say_what_counts_where_and_what_a_restart_would_change(sshd: OpenSSHServer, tmp_path: Path) -> None:
    server = make_server(sshd, name="web-1")
    group, project = make_group(server, name="web"), make_project(deploy_script_path=show(tmp_path))
    project.server_groups.set([group])
    Variable.objects.create(project=project, name="PORT", value="1")
    client, page = of(make_user()), reverse("project", args=[project.pk])
    assert ": changed since" not in client.get(page).content.decode()
    restarted(project, group)
    assert ": changed since" not in client.get(page).content.decode()
    Variable.objects.create(project=project, name="PORT", value="2", server_group=group)
    Variable.objects.create(project=project, name="TOKEN", value="hunter2", server=server, is_secret=True)
    for address in (page, reverse("launch", args=[project.pk])):
        html = " ".join(client.get(address).content.decode().split())
        assert "PORT, TOKEN: changed since 1 server was last deployed to." in html
        assert "Restart only is enough" in html
        assert "Only group web" in html
        assert "hunter2" not in html
    effective = reverse("project_effective", args=[project.pk]) + f"?server={server.pk}"
    html = " ".join(client.get(effective).content.decode().split())
    assert "group web" in html
    assert "server web-1" in html
    assert "hunter2" not in html
    restarted(project, group)
    assert ": changed since" not in client.get(page).content.decode()


# --- history ---------------------------------------------------------------------------------------


def test_which_value_went_with_which_deployment_is_told_and_secrets_by_fingerprints(
    sshd: OpenSSHServer, tmp_path: Path
) -> None:
    server = make_server(sshd, name="web-1")
    group, project = make_group(server, name="web"), make_project(deploy_script_path=show(tmp_path))
    port = Variable.objects.create(project=project, name="PORT", value="1", server_group=group)
    token = Variable.objects.create(project=project, name="TOKEN", value="hunter2-one", is_secret=True)
    Variable.objects.create(project=project, name="ROLE", value="blue", is_prompt=True)
    first = restarted(project, group)
    port.value, token.value = "2", "hunter2-two"
    port.save()
    token.save()
    second = restarted(project, group, answers={"ROLE": "green"})
    third = restarted(project, group, answers={"ROLE": "green"})
    (change,) = changes_of_variables([third, second, first])
    assert (change.deployment, change.before) == (second, first)
    told = {each.name: (each.older, each.newer) for each in change.settings}
    assert told["Variable PORT (Both, group web)"] == ("1", "2")
    assert told["Variable ROLE (Both, answer)"] == ("", "green")
    old, new = told["Variable TOKEN (Both)"]
    assert {old[:7], new[:7]} == {"secret "}
    assert old != new
    client = of(make_user())
    pages = [
        reverse("deployment_compare") + f"?with={first.pk}&with={second.pk}",
        reverse("project_history", args=[project.pk]),
        reverse("deployment_variables", args=[second.pk]),
    ]
    for address in pages:
        html = client.get(address).content.decode()
        assert new in html
        assert "hunter2" not in html
    assert "Answered at launch" in html
