"""A person restarts an application from the browser, and watches it happen."""

import os
import re

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from deployer.models import Deployment
from tests.factories import make_group, make_project, make_server, make_user
from tests.parts.person import PASSWORD, log_in
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import Worker

#: It says that it has begun, waits until the test has seen that, and leaves the application behind.
APPLICATION = f"sleep 987{os.getpid()}"
SCRIPT = f"""\
echo "stopping the shop"
until [ -e go ]; do sleep 0.05; done
nohup {APPLICATION} >/dev/null 2>&1 </dev/null &
echo "the shop is started"
"""


@pytest.mark.django_db(transaction=True)
def test_a_restart_is_launched_from_the_form_and_its_log_arrives_until_it_has_succeeded(
    page: Page, sshd: OpenSSHServer, worker: Worker
) -> None:
    make_user("ada", PASSWORD)
    folder = sshd.home / "browser"
    folder.mkdir()
    (folder / "restart.sh").write_text(SCRIPT)
    project = make_project(
        name="Shop", deploy_path=str(folder), deploy_script_path=str(folder / "restart.sh"), process_name=APPLICATION
    )
    make_group(make_server(sshd, name="web-1"), name="web")

    log_in(page, reverse("launch", args=[project.pk]), "ada")

    page.get_by_role("radio", name=re.compile("Restart only")).check()
    expect(page.get_by_label("Branch, tag, commit or release")).to_be_hidden()
    page.get_by_role("checkbox", name=re.compile("web")).check()
    expect(page).to_have_url(re.compile(r"type=restart_only.*group="))
    expect(page.locator("#changes")).to_contain_text("web-1")
    page.get_by_role("button", name="Restart", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Type the name of the project")
    page.get_by_label("Type “Shop” to launch it").fill("Shop")
    page.get_by_role("button", name="Restart", exact=True).click()

    heading = page.get_by_role("heading", level=1)
    log = page.get_by_role("log")
    expect(log).to_contain_text("stopping the shop")
    expect(heading).to_contain_text("Restarting")
    expect(log).not_to_contain_text("the shop is started")

    (folder / "go").touch()
    expect(log).to_contain_text("the shop is started")
    expect(heading).to_contain_text("Success")
    expect(page.locator(".target", has_text="web-1")).to_contain_text("Success")
    expect(page.locator("#poller")).to_have_text("Ended")

    deployment = Deployment.objects.get()
    assert (deployment.status, deployment.deployment_type, deployment.branch) == ("success", "restart_only", "")
    assert deployment.targets.get().proof["verdict"] == "replaced"
