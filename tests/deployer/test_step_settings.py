"""Steps as settings: in YAML, on their page, in copies, comparisons and approvals, and on the pages before a launch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from deployer.board.comparison import differing_settings
from deployer.declaring.export import as_yaml
from deployer.declaring.reading import DeclarationError, DeclarationFile
from deployer.declaring.writing import apply
from deployer.gates.digest import Content
from deployer.launching.asked import LaunchRequest
from deployer.launching.launch import launch
from deployer.models import Deployment, Release, StepRun, Target
from deployer.plan import Plan
from people.models import Entry
from projects.models import Project, Variable
from projects.ready_steps import READY_STEPS
from projects.steps import Step
from tests.factories import make_deployment, make_group, make_project, make_server

pytestmark = pytest.mark.django_db


def applied(text: str) -> list[str]:
    return [str(change) for change in apply([DeclarationFile("shop.yaml", text.encode(), Path())])]


def rows(project: Project) -> list[tuple[Any, ...]]:
    columns = ("name", "moment", "kind", "when", "types", "script", "undone_by", "run_as", "timeout", "required")
    return [tuple(getattr(step, column) for column in columns) for step in project.steps.in_order()]


@pytest.fixture
def project() -> Project:
    it = make_project(name="shop")
    it.steps.create(name="purge", moment="after_all", script="purge\n", when="always", required=False, position=1)
    it.steps.create(name="migrate", moment="before_all", script="migrate\n", undone_by="back\n", timeout=60, position=2)
    it.steps.create(name="warm", moment="after", script="a: 'b' # c\n", types=["full"], run_as="www", position=9)
    it.steps.create(name="maps", moment="prepare", kind="platform", script="up\n", position=5)
    it.steps.create(name="cold", moment="after", script="x\n", types=["full", "rollback"], position=4)
    return it


def test_a_step_is_the_same_after_its_yaml_was_applied(project: Project) -> None:
    before = rows(project)
    text = as_yaml(project)
    assert applied(text) == []
    project.steps.all().delete()
    assert applied(text) != []
    assert rows(project) == before
    assert applied(text) == []


def test_the_order_in_a_file_is_the_order_of_the_steps(project: Project) -> None:
    text = "projects:\n- name: shop\n  steps:\n"
    text += "".join(f"  - {{name: {name}, moment: after, script: x}}\n" for name in ("b", "a", "c"))
    applied(text)
    assert [step.name for step in project.steps.in_order()] == ["b", "a", "c"]
    swapped = text.replace("name: b,", "name: x,").replace("name: a,", "name: b,").replace("name: x,", "name: a,")
    assert any("position" in change for change in applied(swapped))
    assert [step.name for step in project.steps.in_order()] == ["a", "b", "c"]
    assert applied(swapped) == []


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{name: a, moment: sometimes, script: x}", "expected one of prepare, before_all, before, after, after_all."),
        ("{name: a, moment: before}", "required, but missing."),
        ("{name: a, moment: before, script: x, types: full}", "expected a list of names, not text."),
        ("{name: a, moment: before, script: x, types: [half]}", "full, restart_only, rollback"),
        ("{name: a, moment: before, script: x, when: always}", "Only steps after and after all wait for an end."),
        ("{name: a, moment: after, script: x, undone_by: y}", "Only a step before all is taken back"),
        ("{name: a, moment: before, kind: platform, script: x}", "prepare, before all and after all."),
        ("{name: a, moment: after, kind: platform, script: x}", "prepare, before all and after all."),
        ("{name: a, moment: prepare, kind: platform, script: x, run_as: www}", "runs as nobody else."),
        ("{name: a, moment: prepare, kind: here, script: x}", "expected one of server, platform."),
        ("{name: a, moment: after, script: x, position: 3}", "there is no such key"),
        ("{name: a, moment: after, script: x}\n  - {name: a, moment: before, script: x}", "already declared"),
    ],
)
def test_a_step_that_cannot_be_is_refused_with_its_place(project: Project, step: str, said: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        applied(f"projects:\n- name: shop\n  steps:\n  - {step}\n")
    assert any("shop.yaml: projects[0].steps[" in mistake and said in mistake for mistake in refused.value.mistakes)


def _form(*steps: dict[str, Any]) -> dict[str, Any]:
    sent: dict[str, Any] = {"steps-TOTAL_FORMS": len(steps), "steps-INITIAL_FORMS": 0}
    for number, step in enumerate(steps):
        values = {"kind": "server", "timeout": 600, "position": number, "required": "on"} | step
        sent |= {f"steps-{number}-{name}": value for name, value in values.items()}
    return sent


def test_steps_are_entered_on_their_page_and_recorded(admin_client: Client) -> None:
    project = make_project()
    address = reverse("project_steps", args=[project.pk])
    step = {
        "name": "migrate",
        "moment": "before_all",
        "script": "a\r\nb\r\n",
        "types": ["full", "rollback"],
    }
    assert admin_client.post(address, _form(step)).status_code == 302
    made = project.steps.get()
    assert (made.script, made.types, made.undone_by) == ("a\nb", ["full", "rollback"], "")
    entry = Entry.objects.get(kind="step")
    assert (entry.act, entry.after["script"], entry.after["types"]) == ("created", "a\nb", ["full", "rollback"])
    page = admin_client.get(reverse("project", args=[project.pk])).content.decode()
    assert "migrate" in page
    assert "nothing takes it back" in page


@pytest.mark.parametrize("ready", READY_STEPS, ids=lambda ready: ready.key)
def test_a_ready_made_step_fills_the_form_and_is_right(admin_client: Client, ready: Any) -> None:
    project = make_project()
    page = admin_client.get(reverse("project_steps", args=[project.pk]), {"pick": ready.key}).content.decode()
    for values in ready.steps:
        step = Step(project=project, **values)
        step.full_clean()
        assert f'value="{step.name}"' in page
    assert not project.steps.exists()


def test_a_copy_has_the_steps_too(project: Project) -> None:
    assert rows(project.copy("other", "staging")) == rows(project)


def test_two_deployments_are_compared_by_their_steps(project: Project) -> None:
    group = make_group(make_server())
    older = make_deployment(project, group)
    Deployment.objects.update(finished_at="2026-01-01T00:00Z", status="failed")
    project.steps.filter(name="migrate").update(script="other\n")
    project.steps.filter(name="purge").delete()
    newer = make_deployment(project, group)
    found = {setting.name: (setting.older, setting.newer) for setting in differing_settings(older, newer)}
    assert found["Step migrate"] == ("script: migrate\n", "script: other\n")
    assert found["Step purge"][1] == ""


def test_an_approval_is_for_the_steps_as_they_were(project: Project) -> None:
    deployment = make_deployment(project, make_group(make_server()))
    content = Content.of(deployment)
    others: tuple[dict[str, Any], ...] = ({"script": "rm -rf /"}, {"kind": "server"})
    for other in others:
        steps = tuple(replace(step, **other) for step in content.plan.steps)
        assert replace(content, plan=replace(content.plan, steps=steps)).digest() != content.digest()


def test_a_plan_that_was_frozen_before_steps_were_known_is_read(project: Project) -> None:
    stored = Plan.of(project, []).to_json()
    del stored["steps"], stored["puts_back"]
    assert Plan.from_json(stored).steps == ()


def test_a_plan_that_was_frozen_before_steps_on_the_platform_were_known_is_read(project: Project) -> None:
    stored = Plan.of(project, []).to_json()
    for step in stored["steps"]:
        del step["kind"]
    assert not any(step.is_on_platform for step in Plan.from_json(stored).steps)


def test_the_pages_say_what_runs_on_the_platform(project: Project, admin_client: Client) -> None:
    page = admin_client.get(reverse("project", args=[project.pk])).content.decode()
    assert page.count("on the platform") == 1
    deployment = make_deployment(project, make_group(make_server()))
    values = {"deployment": deployment, "step": "maps", "moment": "prepare", "action": "deploy", "fingerprint": "x"}
    run = StepRun.objects.create(**values, status="failed", exit_code=7, key="k")
    page = admin_client.get(reverse("deployment", args=[deployment.pk])).content.decode()
    assert "Prepare, on the platform: maps" in page
    assert "exit 7" in page
    StepRun.objects.filter(pk=run.pk).update(status="running")
    Deployment.objects.update(status="deploying", started_at="2026-01-01T00:00Z")
    page = admin_client.get(reverse("deployment_cancel", args=[deployment.pk])).content.decode()
    assert "Step “Prepare, on the platform: maps” is ended" in page


def test_steps_have_each_name_once(project: Project) -> None:
    with pytest.raises(ValidationError, match="a step of this name"):
        Step(project=project, name="migrate", moment="after", script="x").full_clean()


# --- before a launch ---------------------------------------------------------------------------------


@pytest.fixture
def history(project: Project) -> Deployment:
    """#1 has put release one on a server, #2 release two after a migration."""
    group = make_group(make_server(name="web-1"))
    last: Deployment | None = None
    for version, before in (("one", ""), ("two", "one")):
        release = Release.objects.create(project=project, version=version, archive="x.tar.gz", commit_hash="a" * 40)
        last = launch(LaunchRequest(project, [group], "full", release=release, branch="main"))
        moments = {"started_at": "2026-01-01T00:00Z", "begun_at": "2026-01-01T00:00Z"}
        last.targets.update(status="success", release_before=before, release_after=version, **moments)
        Deployment.objects.filter(pk=last.pk).update(status="success", finished_at="2026-01-01T00:01Z")
    assert last is not None
    last.refresh_from_db()
    return last


def _did(deployment: Deployment, **values: Any) -> None:
    steps = Plan.from_json(deployment.plan).steps  # type: ignore[arg-type]  # stored as such
    step = next(step for step in steps if step.name == "migrate")
    named = {"step": step.name, "moment": step.moment, "action": "deploy", "fingerprint": step.fingerprint}
    known = {"release": "two", "status": "done", "key": "k", "target": deployment.targets.get()}
    StepRun.objects.create(deployment=deployment, **named | known | values)


def _board(client: Client, project: Project) -> str:
    return client.get(reverse("project_board", args=[project.pk])).content.decode()


def test_the_board_says_that_the_way_back_is_open(history: Deployment, admin_client: Client) -> None:
    first = Deployment.objects.order_by("pk")[0]
    assert f"can go back to #{first.pk}: yes" in _board(admin_client, history.project)
    _did(history)
    assert f"can go back to #{first.pk}: yes" in _board(admin_client, history.project)


def test_the_board_says_why_there_is_no_way_back(history: Deployment, admin_client: Client) -> None:
    project, first = history.project, Deployment.objects.order_by("pk")[0]
    plan = Plan.from_json(history.plan)  # type: ignore[arg-type]  # stored as such
    steps = tuple(replace(step, undone_by="") for step in plan.steps)
    Deployment.objects.filter(pk=history.pk).update(plan=replace(plan, steps=steps).to_json())
    _did(history)
    why = f"can go back to #{first.pk}: no, nothing takes back step “migrate” of #{history.pk}"
    assert why in _board(admin_client, project)
    Release.objects.filter(version="one").update(archive="")
    assert "release one is no longer stored" in _board(admin_client, project)


def test_a_full_disk_is_in_the_way_back(history: Deployment, admin_client: Client) -> None:
    server = history.targets.get().server
    assert server is not None
    server.facts = {"free": 50 << 20}
    server.save()
    assert "the disk is nearly full: 50 MB are free" in _board(admin_client, history.project)


def test_the_launch_page_shows_the_steps_and_the_way_back(history: Deployment, admin_client: Client) -> None:
    group = history.server_groups.get()
    Variable.objects.create(project=history.project, name="WHY", is_prompt=True)  # it has no answer yet
    address = reverse("launch_changes", args=[history.project_id])
    query = {"deployment_type": "full", "branch": "main", "server_groups": str(group.pk)}
    page = admin_client.get(address, query).content.decode()
    assert "Before all: migrate" in page
    assert "Prepare, on the platform: maps" in page
    assert "only if a release is built" in page
    assert f"web-1: can go back to #{history.pk}: yes" in page
    history.project.steps.filter(name="migrate").update(undone_by="")
    page = admin_client.get(address, query).content.decode()
    assert f"can go back to #{history.pk}: no, nothing takes back step “migrate”" in page
    page = admin_client.get(address, query | {"deployment_type": "restart_only"}).content.decode()
    assert "After all: purge" in page
    assert "migrate" not in page


def test_a_retry_says_what_it_does_not_repeat(history: Deployment, admin_client: Client) -> None:
    history.targets.update(status="failed")
    _did(history)
    page = admin_client.get(reverse("deployment_retry", args=[history.pk])).content.decode()
    assert "Before all: migrate" in page
    assert f"not repeated: #{history.pk} has done it" in page
    assert "not run: nothing is built, two is used again" in page
    assert "After: warm" in page


def test_a_rollback_says_what_it_takes_back(history: Deployment, admin_client: Client) -> None:
    _did(history)
    page = admin_client.get(reverse("deployment_rollback", args=[history.pk])).content.decode()
    assert f"Take back “migrate” of #{history.pk}" in page
    assert "Before all: migrate" not in page
    assert "After: cold" in page
    assert "After: warm" not in page


def test_who_only_sees_a_deployment_puts_no_server_back(history: Deployment, client: Client) -> None:
    Target.objects.update(kept_out="its step after failed")
    address = reverse("deployment_drained", args=[history.pk])
    assert client.post(address, {"target": history.targets.get().pk}).status_code == 302
    assert Deployment.objects.count() == 2


def test_a_retry_says_what_may_have_been_done(history: Deployment, admin_client: Client) -> None:
    history.targets.update(status="failed")
    _did(history, status="unknown")
    page = admin_client.get(reverse("deployment_retry", args=[history.pk])).content.decode()
    assert f"#{history.pk} may have done it, or be at it: it is run again" in page
