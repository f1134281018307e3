"""Two people: one launches to production and is held, the other sees that it waits for them, and approves; it runs."""

import re
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect

from deployer.models import Deployment, GateRule
from people.models import ApiToken, User
from tests.browser.conftest import SLOW
from tests.factories import make_deployment, make_group, make_member, make_project, make_server
from tests.parts.git import GitRepository
from tests.parts.person import PASSWORD, log_in
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import Worker

pytestmark = pytest.mark.django_db(transaction=True)


def another(page: Page) -> Page:
    """The page of somebody else, in a browser of their own."""
    assert page.context.browser is not None
    there = page.context.browser.new_context(base_url=_site(page)).new_page()
    there.set_default_timeout(SLOW)
    return there


def _site(page: Page) -> str:
    parts = urlsplit(page.url)
    return f"{parts.scheme}://{parts.netloc}"


def addresses_of(it: Deployment) -> list[str]:
    """Every address at which something of a deployment, or of its project, is shown."""
    names = ["", "poll", "server", "earlier", "later", "error", "previous", "changes", "log", "cancel", "continue"]
    names += ["retry", "rollback", "again", "decide", "override"]
    found = [reverse("_".join(filter(None, ["deployment", name])), args=[it.pk]) for name in names]
    of_project = ["project", "launch", "project_board", "project_places", "launch_changes", "launch_names"]
    of_project += ["project_builds", "project_yaml", "releases", "project_edit", "project_copy", "project_variables"]
    found += [reverse(name, args=[it.project_id]) for name in of_project]
    found += [reverse("server", args=[it.targets.get().server_id]), reverse("group", args=[it.server_groups.get().pk])]
    return found


def test_one_launches_to_production_is_held_and_the_other_approves_and_it_runs(
    page: Page, sshd: OpenSSHServer, worker: Worker, git_repo: GitRepository
) -> None:
    make_member("operator", "production", username="ada", password=PASSWORD)
    make_member("operator", "production", username="grace", password=PASSWORD)
    eve = make_member("admin", "staging", username="eve", password=PASSWORD)
    git_repo.commit({"restart.sh": 'echo "the shop is started"\n'}, "Monday's code")
    project = make_project(
        name="Shop", git_url=git_repo.url, deploy_path=str(sshd.home / "gated"), deploy_script_path="restart.sh"
    )
    make_group(make_server(sshd, name="web-1"), name="web")
    GateRule.objects.create(environment="production", needs_approval=True)

    log_in(page, reverse("launch", args=[project.pk]), "ada")
    expect(page.locator("#gates")).to_contain_text("A second person has to approve it")
    page.get_by_label("Type “Shop” to launch it").fill("Shop")
    page.get_by_role("button", name="Ask for approval").click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("Waits for approval")
    expect(page.get_by_role("link", name="Approve or reject")).to_have_count(0)
    other, outsider = another(page), another(page)
    held = Deployment.objects.get()
    assert held.commit_hash == git_repo.head
    git_repo.commit({"restart.sh": 'echo "Tuesday is started"\n'}, "Tuesday's code")

    log_in(other, reverse("home"), "grace")
    expect(other.locator(".nav-count")).to_contain_text("1")
    expect(other.get_by_role("navigation").get_by_text("waiting for you")).to_have_count(1)
    expect(other.get_by_role("heading", name="Waits for you")).to_be_visible()
    other.get_by_role("link", name=f"#{held.pk} Shop").click()
    expect(other.locator("#deployment-state")).to_contain_text("Waits for you")
    other.get_by_role("link", name="Approve or reject").click()
    expect(other.get_by_role("dialog")).to_contain_text("web-1")
    other.get_by_label("Reason").fill("read it")
    other.get_by_role("button", name="Approve").click()
    expect(other.locator("#deployment-state")).to_contain_text(re.compile("Approved by grace.*read it", re.DOTALL))

    expect(page.get_by_role("log")).to_contain_text("the shop is started")
    expect(heading).to_contain_text("Success")
    expect(page.locator("#deployment-state")).to_contain_text("Approved by grace")
    assert "Tuesday" not in page.get_by_role("log").inner_text()
    other.goto(reverse("home"))
    expect(other.locator(".nav-count")).to_have_count(0)
    (target,) = held.targets.all()
    assert target.status == "success"
    assert (sshd.home / "gated" / "current").resolve().name == target.release_after

    log_in(outsider, reverse("home"), "eve")
    expect(outsider.get_by_role("heading", name="Overview")).to_be_visible()
    expect(outsider.get_by_text("Shop")).to_have_count(0)
    for address in addresses_of(held):
        assert outsider.request.get(address, max_redirects=0).status == 404, address
    token = {"Authorization": f"Bearer {secret_of(eve)}"}
    for address in (f"deployments/{held.pk}", f"deployments/{held.pk}/log", f"projects/{project.pk}/releases"):
        assert outsider.request.get(f"/api/v1/{address}", headers=token).status == 404, address
    listed = outsider.request.get("/api/v1/deployments", headers=token)
    assert (listed.status, "Shop" in listed.text()) == (200, False)


def secret_of(user: User) -> str:
    """A token of somebody."""
    row = ApiToken(name="theirs", user=user, role="admin")
    secret = row.renew()
    row.save()
    return secret


def test_an_outsider_finds_nothing_at_the_addresses_of_what_waits(client: Client) -> None:
    GateRule.objects.create(environment="production", needs_approval=True)
    it = make_deployment(make_project(), make_group(make_server()), deployment_type="restart_only")
    client.force_login(make_member("admin", "staging"))
    for name in ("deployment", "deployment_decide", "deployment_override", "deployment_poll", "deployment_log"):
        address = reverse(name, args=[it.pk])
        assert client.get(address).status_code == 404, name
    for name in ("deployment_decide", "deployment_override"):
        assert client.post(reverse(name, args=[it.pk]), {"reason": "x"}).status_code == 404, name
