"""A person makes, copies and tries projects in the browser, and plays without a server at hand."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from projects.models import Project
from tests.factories import make_group, make_project, make_server, make_user
from tests.parts.git import GitRepository
from tests.parts.person import PASSWORD, log_in
from tests.parts.programs import free_port, processes_with, wait_until
from tests.parts.sshd import OpenSSHServer
from tests.parts.up import Up

pytestmark = pytest.mark.django_db(transaction=True)

PACKAGE = json.dumps({"scripts": {"build": "vite build"}, "devDependencies": {"vite": "5"}})


def test_from_an_empty_database_to_a_project_by_the_guided_form(
    page: Page, git_repo: GitRepository, tmp_path: Path, queue_server: object
) -> None:
    git_repo.commit({"package.json": PACKAGE, "package-lock.json": "{}"})
    git_repo.branch("feature/cart")
    git_repo.switch("main")
    make_user("ada", PASSWORD)
    log_in(page, reverse("home"), "ada")
    expect(page.get_by_role("heading", name="Nothing has been deployed yet")).to_be_visible()
    page.get_by_role("link", name="Create a project").click()

    page.get_by_label("Name").fill("Web shop")
    page.get_by_label("Environment").select_option("Staging")
    page.get_by_label("Git address").fill(str(tmp_path / "nowhere"))
    page.get_by_role("button", name="Look at the repository").click()
    expect(page.get_by_role("alert")).to_contain_text("there is no such repository")
    page.get_by_label("Git address").fill(git_repo.url)
    page.get_by_role("button", name="Look at the repository").click()

    expect(page.get_by_label("Branch")).to_have_value("main")
    expect(page.get_by_label("Type")).to_have_value("frontend")
    expect(page.get_by_role("checkbox", name="Install dependencies")).to_be_checked()
    expect(page.get_by_label("Build script")).to_have_value("npm run build")
    expect(page.get_by_label("Output folder")).to_have_value("dist")
    expect(page.locator("#example-script")).to_contain_text("systemctl reload nginx")
    page.get_by_label("Branch").select_option("feature/cart")
    expect(page.get_by_label("Restart script")).to_have_value(re.compile("systemctl reload nginx"))
    page.get_by_label("Deploy script").fill("/srv/web-shop/restart.sh")
    page.get_by_label("Deploy path").fill("~/shop")
    page.get_by_label("Output folder").fill("../dist")  # leaving the deploy path moves the script below it
    expect(page.get_by_label("Deploy script")).to_have_value("~/shop/restart.sh")
    page.get_by_role("button", name="Create the project").click()
    expect(page.get_by_role("alert")).to_contain_text("must be a folder inside the repository")
    expect(page.get_by_label("Branch")).to_have_value("feature/cart")
    page.get_by_label("Output folder").fill("dist")
    page.get_by_role("button", name="Create the project").click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("Web shop")
    expect(page.get_by_role("heading", name="Next: a group of servers for Staging")).to_be_visible()
    project = Project.objects.get()
    assert (project.name, project.environment, project.git_url) == ("Web shop", "staging", git_repo.url)
    assert (project.default_branch, project.deploy_path, project.output_dir) == ("feature/cart", "~/shop", "dist")
    assert project.deploy_script_path == "~/shop/restart.sh"


def test_variables_and_a_health_check_are_entered_the_check_is_tried_and_all_of_it_is_copied_and_shown_as_yaml(
    page: Page, sshd: OpenSSHServer, queue_server: object
) -> None:
    make_user("ada", PASSWORD)
    project = make_project(name="Shop")
    make_group(make_server(sshd, name="web-1"), name="web")
    address = reverse("project", args=[project.pk])
    log_in(page, address, "ada")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Shop")
    page.wait_for_load_state()

    page.get_by_role("link", name="Add a variable").click()
    page.wait_for_url("**/variables/")
    page.get_by_label("Name").fill("API_KEY")
    page.get_by_label("Value").fill("hunter2")
    page.get_by_role("checkbox", name="Secret").check()
    page.get_by_role("button", name="Add a row").click()
    page.get_by_label("Name").nth(1).fill("NODE_ENV")
    page.get_by_label("Value").nth(1).fill("production")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Saved.")
    expect(page.locator("#variables")).to_contain_text("NODE_ENV")
    expect(page.locator("body")).not_to_contain_text("hunter2")

    page.get_by_role("link", name="Add a health check").click()
    page.get_by_label("Kind").select_option("TCP port")
    page.get_by_label("Target").fill(str(sshd.port))
    page.get_by_role("button", name="Add a row").click()
    page.get_by_label("Kind").nth(1).select_option("HTTP")
    page.get_by_label("Target").nth(1).fill(f"http://127.0.0.1:{free_port()}/up")
    page.get_by_role("button", name="Save").click()
    checks = page.locator("#health")
    page.get_by_role("button", name=re.compile("^Try TCP port")).click()
    expect(checks).to_contain_text(re.compile(r"Healthy on web-1, in \d+\.\d s\."))
    page.get_by_role("button", name=re.compile("^Try HTTP")).click()
    expect(checks).to_contain_text(re.compile(r"Unhealthy on web-1, in \d+\.\d s: .*refused"))

    page.locator("#project-more > summary").click()
    page.get_by_role("link", name="YAML").click()
    expect(page.locator("#yaml")).to_contain_text("value_env: SHOP_API_KEY")
    with page.expect_download() as file:
        page.get_by_role("link", name="Download").click()
    assert file.value.suggested_filename == "shop.yaml"
    assert "name: Shop\n" in Path(file.value.path()).read_text()

    page.goto(address)
    page.locator("#project-more > summary").click()
    page.get_by_role("link", name="Copy", exact=True).click()
    expect(page.get_by_text("are copied without being shown")).to_be_visible()
    page.get_by_label("Name").fill("Shop staging")
    page.get_by_label("Environment").select_option("Staging")
    page.get_by_role("button", name="Create the copy").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Shop staging")
    copy = Project.objects.get(name="Shop staging")
    assert [row.value for row in copy.variables.all()] == ["hunter2", "production"]
    assert [row.kind for row in copy.health_checks.all()] == ["tcp", "http"]

    page.get_by_role("link", name="Settings", exact=True).click()
    page.wait_for_load_state()  # what follows the path is a script of the page
    page.get_by_label("Deploy path").fill("/srv/shop-staging")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Saved.")
    copy.refresh_from_db()
    assert (copy.deploy_path, copy.deploy_script_path) == ("/srv/shop-staging", "/srv/shop-staging/restart.sh")


def test_without_a_server_at_hand_one_button_leads_to_the_first_deployment_and_another_one_removes_it_all(
    page: Page, up: Callable[..., Up]
) -> None:
    site = up("--workers", "1").wait_ready(1)
    site.choose_ports()
    mark = f"DEMO_FOLDER={site.folder / 'playground'}"
    log_in(page, site.url, "admin", site.password)
    page.get_by_role("button", name="Create a playground").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Launch playground-shop")
    expect(page.get_by_role("checkbox", name=re.compile("playground-web-3"))).to_be_checked()
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Success")
    wait_until(lambda: len(processes_with(mark)) == 3, "the three shops alone to run")

    page.goto(site.url)
    page.get_by_role("link", name="See or remove it").click()
    page.get_by_role("button", name="Remove the playground").click()
    expect(page.get_by_role("status")).to_contain_text(
        "“playground-shop” is deleted, with its releases and 1 deployment."
    )
    expect(page.get_by_role("heading", name="Nothing has been deployed yet")).to_be_visible()
    wait_until(lambda: not processes_with(mark), "the shops to end")
    page.goto("about:blank")  # else it goes on asking
    assert site.stop(signal.SIGTERM) == 0
    site.wait_ended()


def test_of_two_who_edit_a_project_the_second_sees_what_the_first_changed_keeps_what_they_typed_and_saves_it(
    page: Page,
) -> None:
    make_user("ada", PASSWORD)
    make_user("bea", PASSWORD)
    project = make_project(name="Shop", deploy_path="/srv/a", deploy_script_path="/srv/restart.sh")
    address = reverse("project_edit", args=[project.pk])
    log_in(page, address, "bea")
    other = page.context.browser.new_page(base_url=page.url.removesuffix(address))  # type: ignore[union-attr]
    log_in(other, address, "ada")
    other.get_by_label("Deploy path").fill("/srv/b")
    other.get_by_role("button", name="Save").click()
    expect(other.get_by_role("status")).to_contain_text("Saved.")

    page.get_by_label("Description").fill("what Bea typed")
    page.get_by_role("button", name="Save", exact=True).click()
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("ada has changed this since you opened the page.")
    expect(notice).to_contain_text("Deploy path is /srv/b now; you were shown /srv/a.")
    expect(page.get_by_label("Description")).to_have_value("what Bea typed")
    project.refresh_from_db()
    assert (project.description, project.deploy_path) == ("", "/srv/b")

    page.get_by_label("Deploy path").fill("/srv/b")
    notice.get_by_role("button", name="Save mine all the same").click()
    expect(page.get_by_role("status")).to_contain_text("Saved.")
    project.refresh_from_db()
    assert (project.description, project.deploy_path) == ("what Bea typed", "/srv/b")
