"""A person edits a config file in the browser, and everything that follows from it, up to the way back."""

import re
from collections.abc import Callable

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from deployer.board.sightings import refresh
from projects.models import ConfigFile
from tests.factories import make_group, make_project, make_server, make_user
from tests.parts.person import PASSWORD, log_in
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import Worker

#: A server that is told so does not start with the last of the files.
SCRIPT = "[ ! -e ~/broken ] || ! grep -q port=82 ~/etc/app.conf\n"


@pytest.mark.django_db(transaction=True)
def test_a_file_is_edited_compared_restarted_found_changed_by_hand_and_taken_back(
    page: Page, make_sshd: Callable[..., OpenSSHServer], worker: Worker
) -> None:
    make_user("ada", PASSWORD)
    machines = [make_sshd() for _n in range(3)]
    for machine in machines:
        (machine.home / "etc").mkdir()
        (machine.home / "restart.sh").write_text(SCRIPT)
    servers = [make_server(machine, name=f"web-{n}") for n, machine in enumerate(machines, start=1)]
    project = make_project(
        name="Shop",
        environment="staging",
        deploy_path="",
        deploy_script_path="~/restart.sh",
        auto_rollback=True,
        batches="1, 100%",
    )
    group = make_group(*servers, name="web", environment="staging")
    project.server_groups.add(group)
    confs = [machine.home / "etc" / "app.conf" for machine in machines]
    heading = page.get_by_role("heading", level=1)

    def restart() -> None:
        page.get_by_role("button", name="Restart", exact=True).click()

    # The first one is put on all of them.
    log_in(page, reverse("project_files", args=[project.pk]), "ada")
    page.get_by_role("link", name="Add a config file").click()
    page.get_by_label("Path").fill("~/etc/app.conf")
    page.get_by_label("Content").fill("port=80\n")
    page.get_by_role("button", name="Save").click()
    page.goto(reverse("launch", args=[project.pk]) + "?type=restart_only")
    restart()
    expect(heading).to_contain_text("Success")
    assert [conf.read_text() for conf in confs] == ["port=80\n"] * 3

    # It is edited: these servers now differ, and how.
    page.goto(reverse("config_file", args=[ConfigFile.objects.get().pk]))
    page.get_by_label("Content").fill("port=81\n")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").last).to_contain_text("3 servers do not have these files yet:")
    page.get_by_role("button", name="Show the difference to each server").click()
    differences = page.locator("#differences")
    expect(differences.locator("ins")).to_have_text(["+port=81"] * 3)
    expect(differences.locator("del")).to_have_text(["-port=80"] * 3)

    # A restart of these alone.
    page.get_by_role("link", name="Restart only these").click()
    expect(page.get_by_role("radio", name=re.compile("Restart only"))).to_be_checked()
    restart()
    expect(heading).to_contain_text("Success")
    assert [conf.read_text() for conf in confs] == ["port=81\n"] * 3
    deployment = project.deployments.first()
    assert deployment is not None
    assert deployment.deployment_type == "restart_only"

    # Somebody changes one by hand: the board tells it, and it is not overwritten.
    confs[1].write_text("port=8181 # by hand\n")
    refresh(project)
    page.goto(reverse("project", args=[project.pk]))
    expect(page.locator("body")).to_contain_text("config file ~/etc/app.conf was changed by hand")
    file = project.config_files.get()
    file.content = "port=82\n"
    file.save()
    page.goto(reverse("launch", args=[project.pk]) + "?type=restart_only")
    page.get_by_role("button", name="Check first").click()
    expect(page.locator("#findings")).to_contain_text("Config file ~/etc/app.conf would be overwritten")

    # Overwritten knowingly, it fails on the last one, and all are as they were.
    (machines[2].home / "broken").touch()
    page.get_by_text("1 config file is put on the servers").click()
    page.get_by_label("Overwrite files that somebody has changed on a server").check()
    restart()
    expect(heading).to_contain_text("Failed")
    assert [conf.read_text() for conf in confs] == ["port=81\n", "port=8181 # by hand\n", "port=81\n"]
