"""Continue, retry, roll back and check first: the same from pages, API and command line."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from deployer.launching.asked import LaunchRequest
from deployer.launching.rules import Accepted, check_launch, refusal_while_active
from deployer.models import Deployment, Release, Target
from people.models import ApiToken
from servers.models import Server
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.html import tight
from tests.parts.programs import PATIENCE
from tests.parts.queue import QueueServer
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import MANAGE, process_environment

Status = Deployment.Status
EVERYWHERE = ["page", "api", "command line"]


class Operator:
    """Somebody who does the same thing from one of three places; ``say`` is what they are told."""

    def __init__(self, place: str) -> None:
        self.place = place
        user = make_user("maria")
        self.browser = Client()
        self.browser.force_login(user)
        row = ApiToken(name="ci", user=user)
        self._api = Client(headers={"authorization": f"Bearer {row.renew()}"})
        row.save()

    def do(self, action: str, it: Deployment) -> tuple[bool, str]:
        """Whether it was done, and what was answered."""
        if self.place == "page":
            page = self.browser.post(reverse(f"deployment_{action}", args=[it.pk]), follow=True)
            html = page.content.decode()
            return "notice-error" not in html and "notice-warning" not in html, html
        if self.place == "api":
            answer = self._api.post(f"/api/v1/deployments/{it.pk}/{action}")
            return answer.status_code in (200, 201), answer.content.decode()
        done = manage(action, str(it.pk))
        assert done.returncode in (0, 2)
        return done.returncode == 0, done.stdout + done.stderr

    def api(self, path: str, body: Any = None) -> Any:
        return self._api.post(f"/api/v1{path}", json.dumps(body), content_type="application/json")


def manage(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MANAGE, *args], env=process_environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.fixture(params=EVERYWHERE)
def operator(request: pytest.FixtureRequest, queue_server: QueueServer, transactional_db: None) -> Operator:
    return Operator(request.param)


@pytest.fixture
def browser(db: None) -> Client:
    return Operator("page").browser


def ended(status: str = "failed", *, deployment_type: str = "full", release_before: str = "") -> Deployment:
    """A deployment to web-1, which succeeded, and web-2, which did not; ``release_before`` was live on both."""
    project = make_project(name="shop", batches="1, 100%")
    group = make_group(make_server(name="web-1"), make_server(name="web-2"), name="web")
    it = make_deployment(project, group, deployment_type=deployment_type)
    it.claim_for_worker()
    if deployment_type == "full":
        values = {"release_before": release_before, "release_after": "r2"}
        it.targets.update(started_at=it.created_at, **values)
    first, second = it.targets.order_by("id")
    Target.objects.filter(pk=first.pk).update(status="success")
    Target.objects.filter(pk=second.pk).update(status="success" if status == "success" else "failed")
    it.end(Status(status), "" if status == "success" else "web-2 failed.")
    return it


def stored(it: Deployment, version: str) -> Release:
    return Release.objects.create(project=it.project, version=version, commit_hash="c" * 40, archive="releases/x")


def paused() -> Deployment:
    """A deployment that waits after web-1, with web-2 and web-3 to come."""
    project = make_project(name="shop", batches="1, 100%", pause_after_first=True)
    it = make_deployment(
        project,
        make_group(*(make_server(name=f"web-{number}") for number in (1, 2, 3))),
        deployment_type="restart_only",
    )
    it.claim_for_worker()
    it.targets.filter(server_name="web-1").update(status="success")
    it.pause()
    return it


# --- everywhere the same ---------------------------------------------------------------------------


def test_a_paused_deployment_is_continued_once(operator: Operator) -> None:
    it = paused()
    assert operator.do("continue", it)[0]
    it.refresh_from_db()
    assert it.paused_at is None
    done, said = operator.do("continue", it)
    assert not done
    assert f"Deployment #{it.pk} is not paused: there is nothing to continue." in said


def test_retry_launches_the_failed_servers_again(operator: Operator) -> None:
    it = ended()
    done, _said = operator.do("retry", it)
    again = Deployment.objects.latest("id")
    assert done
    assert again.retry_of == it
    assert [target.server_name for target in again.targets.all()] == ["web-2"]
    assert again.trigger == {"page": "web", "api": "api", "command line": "cli"}[operator.place]
    assert (again.created_by is None) is (operator.place == "command line")


def buttons(browser: Client, it: Deployment) -> tuple[list[str], str]:
    """The buttons of its page that are off, and the page."""
    html = tight(browser.get(it.get_absolute_url()).content.decode())
    off = re.findall(r"<button[^>]*disabled[^>]*>(.*?)</button>", html)
    return [re.sub(r"<[^>]*>|…", "", text).strip() for text in off], html


def test_what_would_always_be_refused_is_off_with_the_reason(browser: Client) -> None:
    it = ended(release_before="r1")
    off, html = buttons(browser, it)
    assert off == ["Roll back"]
    assert "No way to roll back: There is no release “r1”." in html
    stored(it, "r1")
    assert buttons(browser, it)[0] == []
    newer = make_deployment(it.project, *it.server_groups.all())
    assert buttons(browser, it)[0] == [], "another one that is running is in the way for now alone"
    newer.targets.update(started_at=it.created_at)
    newer.claim_for_worker()
    newer.end(Status.FAILED, "")
    off, html = buttons(browser, it)
    assert off == ["Retry failed", "Roll back"]
    assert html.count(f"A newer deployment (#{newer.pk}) has changed these servers") == 2


def test_a_retry_of_a_server_that_is_in_none_of_its_groups_is_off(browser: Client) -> None:
    it = ended()
    it.server_groups.get().servers.remove(Server.objects.get(name="web-2"))
    off, html = buttons(browser, it)
    assert off == ["Retry failed"]
    assert "No way to retry: web-2: no longer in a server group" in html


def test_the_first_deployment_offers_no_comparison_with_one_before_it(browser: Client) -> None:
    first = ended()
    address = reverse("deployment_previous", args=[first.pk])
    assert address not in browser.get(first.get_absolute_url()).content.decode()
    make_deployment(first.project, *first.server_groups.all()).request_cancel()
    second = Deployment.objects.latest("id")
    assert reverse("deployment_previous", args=[second.pk]) in browser.get(second.get_absolute_url()).content.decode()
    both = browser.get(reverse("deployment_compare"), {"with": [first.pk, second.pk]}).content.decode()
    assert address not in both


def test_a_paused_deployment_is_called_so_wherever_it_is_shown_and_can_be_continued_there(browser: Client) -> None:
    it = paused()
    go_on = reverse("deployment_continue", args=[it.pk])
    addresses = [*map(reverse, ["home", "activity", "overview", "deployments"]), it.get_absolute_url()]
    addresses.append(reverse("project", args=[it.project_id]))
    for address in [*addresses, f"{reverse('deployments')}?status=paused"]:
        html = browser.get(address).content.decode()
        assert "status-paused" in html, address
        assert go_on in html, address
        assert "status-restarting" not in html, address
    page = tight(browser.get(it.get_absolute_url()).content.decode())
    assert "‖ Waits for you · " in page
    assert "favicon/paused.svg" in page
    assert f"#{it.pk}" not in browser.get(reverse("deployments"), {"status": "restarting"}).content.decode()
    assert "Paused" in browser.get(reverse("launch", args=[it.project_id])).content.decode()

    it.continue_rollout()
    for address in addresses:
        html = browser.get(address).content.decode()
        assert "status-paused" not in html, address
        assert go_on not in html, address
    assert "▸ Restarting · " in tight(browser.get(it.get_absolute_url()).content.decode())


def test_rollback_launches_the_release_that_was_live_before(operator: Operator) -> None:
    it = ended("success", release_before="r1")
    release = stored(it, "r1")
    assert operator.do("rollback", it)[0]
    back = Deployment.objects.latest("id")
    assert (back.rollback_from, back.release, back.targets.count()) == (it, release, 2)


def test_what_was_only_restarted_since_is_rolled_back_all_the_same(operator: Operator) -> None:
    it = ended("success", release_before="r1")
    release = stored(it, "r1")
    restarted = make_deployment(it.project, *it.server_groups.all(), deployment_type="restart_only")
    restarted.claim_for_worker()
    restarted.targets.update(started_at=it.created_at, status="success")
    restarted.end(Status.SUCCESS, "")
    assert operator.do("rollback", it)[0]
    assert Deployment.objects.latest("id").release == release


def test_a_rollback_is_refused_once_a_newer_full_deployment_has_touched_the_servers(operator: Operator) -> None:
    it = ended("success", release_before="r1")
    stored(it, "r1")
    newer = make_deployment(it.project, *it.server_groups.all())
    newer.claim_for_worker()
    newer.targets.update(started_at=it.created_at, status="success")
    newer.end(Status.SUCCESS, "")
    done, said = operator.do("rollback", it)
    assert not done
    assert f"A newer deployment (#{newer.pk}) has changed these servers" in said


@pytest.mark.parametrize(
    ("action", "kind", "words"),
    [
        ("retry", "full", "there is nothing to retry"),
        ("rollback", "restart_only", "there is no earlier release to go back to"),
        ("rollback", "full", "none was recorded"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_same_words(
    operator: Operator, action: str, kind: str, words: str
) -> None:
    done, said = operator.do(action, ended("success", deployment_type=kind))
    assert not done
    assert words in said
    assert Deployment.objects.count() == 1


def test_a_deployment_in_the_way_is_named(operator: Operator) -> None:
    it = ended()
    newer = make_deployment(it.project, *it.server_groups.all())
    newer.claim_for_worker()
    done, said = operator.do("retry", it)
    assert not done
    assert f"is already being deployed to Production (#{newer.pk})" in said
    if operator.place == "page":
        assert f'href="{newer.get_absolute_url()}"' in said


# --- pages -----------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["deployment_continue", "deployment_retry", "deployment_rollback", "launch_check"])
def test_a_visitor_can_do_nothing(name: str) -> None:
    it = ended("failed", release_before="r1")
    answer = Client().post(reverse(name, args=[it.project_id if name == "launch_check" else it.pk]))
    assert answer["Location"].startswith(reverse("login"))
    assert Deployment.objects.count() == 1


def test_the_page_offers_what_fits_the_deployment(browser: Client) -> None:
    def offers(it: Deployment) -> set[str]:
        html = browser.get(it.get_absolute_url()).content.decode()
        return {
            name for name in ("continue", "retry", "rollback") if reverse(f"deployment_{name}", args=[it.pk]) in html
        }

    waiting = paused()
    assert offers(waiting) == {"continue"}
    waiting.request_cancel()
    assert offers(waiting) == set()
    waiting.end(Status.CANCELLED)
    assert offers(waiting) == {"retry"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "offered"),
    [
        ({"status": "success"}, set()),
        ({"status": "failed"}, {"retry"}),
        ({"status": "success", "release_before": "r1"}, {"rollback"}),
        ({"status": "failed", "release_before": "r1"}, {"retry", "rollback"}),
        ({"status": "failed", "deployment_type": "restart_only"}, {"retry"}),
    ],
)
def test_retry_and_rollback_are_offered_where_they_make_sense(
    browser: Client, values: dict[str, str], offered: set[str]
) -> None:
    it = ended(**values)
    if "release_before" in values:
        stored(it, values["release_before"])
    html = browser.get(it.get_absolute_url()).content.decode()
    assert {name for name in ("retry", "rollback") if reverse(f"deployment_{name}", args=[it.pk]) in html} == offered


def test_the_banner_says_after_which_batch_it_waits_and_who_is_next(browser: Client) -> None:
    html = browser.get(paused().get_absolute_url()).content.decode()
    assert "Paused after batch 1." in html
    assert "Next: web-2, web-3" in html


def test_a_poll_brings_the_banner(browser: Client) -> None:
    it = paused()
    it.continue_rollout()
    seen = browser.get(it.get_absolute_url()).context["seen"]
    it.pause()
    answer = browser.get(reverse("deployment_poll", args=[it.pk]), {"seen": seen}).content.decode()
    assert "Paused after batch 1." in answer


def test_nothing_happens_before_it_was_said_what_will_happen(browser: Client) -> None:
    waiting = paused()
    html = browser.get(reverse("deployment_continue", args=[waiting.pk])).content.decode()
    assert "web-1" not in html
    assert html.index("web-2") < html.index("web-3")
    waiting.refresh_from_db()
    assert waiting.paused_at is not None


def test_before_a_cancel_it_is_said_that_a_server_is_put_back_all_the_same(browser: Client) -> None:
    project = make_project(auto_rollback=True)
    it = make_deployment(project, make_group(*(make_server(name=f"web-{number}") for number in (1, 2))))
    it.claim_for_worker()
    it.targets.update(release_before="r1", release_after="r2")
    first, second = it.targets.order_by("id")
    first.move(Target.Status.RESTARTING)
    second.move(Target.Status.SUCCESS)
    address = reverse("deployment_cancel", args=[it.pk])
    assert "is put back" not in browser.get(address).content.decode()
    first.move(Target.Status.FAILED)
    html = browser.get(address).content.decode()
    assert html.count("is put back on its previous release") == 2
    assert "stays as it is" not in html


@pytest.mark.parametrize(("is_built", "first"), [(False, "again"), (True, "retry")])
def test_what_did_not_build_is_rather_run_anew_than_retried(browser: Client, is_built: bool, first: str) -> None:
    it = ended()
    release = stored(it, "r2") if is_built else None
    Deployment.objects.filter(pk=it.pk).update(commit_hash="c" * 40, release=release)
    html = tight(browser.get(it.get_absolute_url()).content.decode())
    assert re.findall(r'btn-primary" href="[^"]*/(\w+)/"', html) == [first]


def test_after_a_cancel_only_force_is_offered_and_waiting_for_it(browser: Client) -> None:
    it = make_deployment(make_project(), make_group(make_server()))
    it.claim_for_worker()
    address = reverse("deployment_cancel", args=[it.pk])
    assert "Let it continue" in browser.get(address).content.decode()
    it.request_cancel()
    html = browser.get(address).content.decode()
    assert f"Cancel #{it.pk} by force" in html
    assert "Cancel the deployment" not in html
    assert "Let it continue" not in html
    assert "Wait for it to finish" in html


def test_the_confirmation_of_a_retry_names_the_code_and_the_servers(browser: Client) -> None:
    it = ended()
    Deployment.objects.filter(pk=it.pk).update(commit_hash="a" * 40)
    html = tight(browser.get(reverse("deployment_retry", args=[it.pk])).content.decode())
    assert f"A new full deployment of {'a' * 40}" in html
    assert "On 1 server<" in html
    assert "web-2" in html
    assert "web-1" not in html
    assert Deployment.objects.count() == 1


def test_the_confirmation_of_a_rollback_names_the_release_the_batches_and_who_is_skipped(browser: Client) -> None:
    it = ended("failed", release_before="r1")
    stored(it, "r1")
    Server.objects.filter(name="web-1").update(is_active=False)
    html = browser.get(reverse("deployment_rollback", args=[it.pk])).content.decode()
    assert "A new deployment of release r1" in html
    assert "inactive, skipped" in html
    assert "batch 1" in html
    assert Deployment.objects.count() == 1


def test_what_would_be_refused_is_said_before_the_confirmation(browser: Client) -> None:
    it = ended()
    newer = make_deployment(it.project, *it.server_groups.all())
    html = browser.get(reverse("deployment_retry", args=[it.pk]), follow=True).content.decode()
    assert "is already being deployed to Production" in html
    assert f'href="{newer.get_absolute_url()}"' in html


def test_a_message_with_a_link_is_still_escaped(browser: Client) -> None:
    it = ended()
    it.project.name = "<b>shop</b>"
    it.project.save()
    make_deployment(it.project, *it.server_groups.all())
    html = browser.post(reverse("deployment_retry", args=[it.pk]), follow=True).content.decode()
    assert "“&lt;b&gt;shop&lt;/b&gt;” is already being deployed" in html
    assert "<b>shop" not in html


def test_origin_and_evidence_are_shown_as_text(browser: Client) -> None:
    it = ended("failed", release_before="r1")
    stored(it, "r1")
    browser.post(reverse("deployment_retry", args=[it.pk]))
    again = Deployment.objects.latest("id")
    again.targets.update(evidence="== app.log\n<script>x</script>\n\x1b[31mred\x1b[0m")
    html = browser.get(again.get_absolute_url()).content.decode()
    assert f"Retry of #{it.pk}" in html
    assert "<details" in html
    assert "&lt;script&gt;x" in html
    assert "<script>x" not in html
    assert "\x1b" not in html
    again.request_cancel()
    browser.post(reverse("deployment_rollback", args=[it.pk]))
    back = Deployment.objects.latest("id")
    assert f"Rollback of #{it.pk}" in browser.get(back.get_absolute_url()).content.decode()


def test_a_pause_and_evidence_cost_the_poll_no_further_query(browser: Client) -> None:
    def queries(it: Deployment) -> int:
        with CaptureQueriesContext(connection) as seen:
            assert browser.get(reverse("deployment_poll", args=[it.pk])).status_code == 200
        return len(seen)

    it = paused()
    Deployment.objects.filter(pk=it.pk).update(paused_at=None)
    before = queries(it)
    it.pause()
    it.targets.update(evidence="x")
    assert queries(it) == before


# --- check first -----------------------------------------------------------------------------------


@pytest.fixture
def checked(sshd: OpenSSHServer, queue_server: QueueServer, transactional_db: None, tmp_path: Path) -> dict[str, Any]:
    """A launch form whose one server is reached and lacks the script."""
    # No process of this machine is called so, whatever other tests start meanwhile.
    project = make_project(name="shop", deploy_script_path=f"{tmp_path}/nowhere.sh", process_name=f"{tmp_path}/shop")
    group = make_group(make_server(sshd, name="web-1"), name="web")
    return {"project": project, "group": group, "script": tmp_path / "nowhere.sh"}


def form_of(checked: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"deployment_type": "restart_only", "branch": "v7", "server_groups": [checked["group"].pk]} | values


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_check_first_shows_what_is_wrong_on_each_server_and_launches_nothing(
    checked: dict[str, Any], headers: dict[str, str]
) -> None:
    browser = Operator("page").browser
    url = reverse("launch_check", args=[checked["project"].pk])
    html = tight(browser.post(url, form_of(checked), headers=headers).content.decode())
    assert "<h3>web-1</h3>" in html
    assert "nowhere.sh does not exist" in html
    assert "What to do: Correct deploy_script_path" in html
    assert html.index("finding-error") < html.index("finding-warning")
    assert ("<html" in html) is not bool(headers)
    if not headers:
        assert 'value="restart_only" checked' in html
        assert 'value="v7"' in html
        assert f'value="{checked["group"].pk}" checked' in html
    assert not Deployment.objects.exists()


def test_check_first_refuses_with_the_words_of_the_launch_and_keeps_what_was_typed(checked: dict[str, Any]) -> None:
    browser = Operator("page").browser
    url = reverse("launch_check", args=[checked["project"].pk])
    for values, words in (
        ({"server_groups": []}, "Choose at least one server group."),
        ({"deployment_type": "full", "branch": "-x"}, "is not the name of a branch"),
        ({"server_groups": ["nonsense"]}, "nonsense"),
    ):
        html = browser.post(url, form_of(checked, **values)).content.decode()
        assert words in html
        assert f'value="{form_of(checked, **values)["branch"]}"' in html


def test_a_check_without_a_login_loads_the_page_anew(checked: dict[str, Any]) -> None:
    url = reverse("launch_check", args=[checked["project"].pk])
    answer = Client().post(url, form_of(checked), headers={"HX-Request": "true"})
    assert answer["HX-Refresh"] == "true"


@pytest.mark.any_database
def test_the_api_and_the_command_line_find_the_same(checked: dict[str, Any]) -> None:
    operator = Operator("api")
    body = {
        "project_id": checked["project"].pk,
        "server_group_ids": [checked["group"].pk],
        "deployment_type": "restart_only",
    }
    operator.api("/preflight", body)  # the first one pins the host key and says so
    answer = operator.api("/preflight", body)
    assert answer.status_code == 200
    found = answer.json()
    assert found["ok"] is False
    assert {(each["level"], each["server"]) for each in found["findings"]} >= {("error", "web-1")}
    check = ("deploy", "shop", "--group", "web", "--type", "restart_only", "--check")
    done = manage(*check, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, found)
    shown = manage(*check)
    assert shown.returncode == 1
    assert "error | web-1 | The restart would fail: the script" in shown.stdout
    checked["script"].write_text("echo ok")
    assert operator.api("/preflight", body).json()["ok"] is True
    done = manage(*check)
    assert (done.returncode, done.stderr) == (0, "")
    assert "No problem was found." in done.stdout
    assert not Deployment.objects.exists()


def test_a_check_that_is_refused_says_so_in_the_shape_of_every_error(checked: dict[str, Any]) -> None:
    staging = make_group(make_server(), name="stage", environment="staging")
    answer = Operator("api").api("/preflight", {"project_id": checked["project"].pk, "server_group_ids": [staging.pk]})
    assert (answer.status_code, answer.json()["field"]) == (422, "server_group_ids")
    done = manage("deploy", "shop", "--group", "stage", "--check")
    assert done.returncode == 2
    assert answer.json()["detail"] in done.stderr
    assert manage("deploy", "shop", "--group", "web", "--check", "--wait").returncode == 2


# --- API and command line --------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_launch_at_the_moment_in_which_its_server_is_deleted_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    operator, server, project = Operator("api"), make_server(), make_project()
    group = make_group(server)

    def found_a_moment_before(asked: LaunchRequest) -> Accepted:
        accepted = check_launch(asked)
        Server.objects.filter(pk=server.pk).delete()
        return accepted

    monkeypatch.setattr("deployer.launching.gated.check_launch", found_a_moment_before)
    answer = operator.api("/deployments", {"project_id": project.pk, "server_group_ids": [group.pk]})
    assert answer.status_code == 409
    assert "was deleted while you were launching" in answer.json()["detail"]
    assert not Deployment.objects.exists()


@pytest.mark.django_db
def test_the_api_answers_a_refusal_in_the_shape_of_every_error() -> None:
    operator, it = Operator("api"), ended()
    newer = make_deployment(it.project, *it.server_groups.all())
    answer = operator.api(f"/deployments/{it.pk}/retry")
    assert answer.status_code == 409
    assert (answer.json()["field"], answer.json()["blocking"]) == ("deployment_id", newer.pk)
    assert operator.api(f"/deployments/{newer.pk}/rollback").json()["blocking"] == newer.pk
    newer.request_cancel()
    assert operator.api(f"/deployments/{it.pk}/rollback").status_code == 422
    for action in ("continue", "retry", "rollback"):
        assert operator.api(f"/deployments/4711/{action}").status_code == 404
        assert Client().post(f"/api/v1/deployments/{it.pk}/{action}").status_code == 401


@pytest.mark.django_db
def test_one_that_was_in_the_way_and_has_just_ended_is_still_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    operator, it = Operator("api"), ended()

    def beaten(asked: Any) -> Deployment:
        raise refusal_while_active(asked.project)

    monkeypatch.setattr("deployer.api.deployments.launch", beaten)
    body = {"project_id": it.project_id, "server_group_ids": [it.server_groups.get().pk]}
    answer = operator.api("/deployments", body)
    assert (answer.status_code, answer.json()["blocking"]) == (409, None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.any_database
def test_retry_prints_one_object_and_refuses_what_is_not_there(queue_server: QueueServer) -> None:
    it = ended()
    done = manage("retry", str(it.pk), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["retry_of"] == it.pk
    for command in ("retry", "rollback", "continue"):
        missing = manage(command, "4711")
        assert (missing.returncode, missing.stdout) == (2, "")
        assert "There is no deployment #4711." in missing.stderr
