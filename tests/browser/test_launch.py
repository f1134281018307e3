"""A person chooses where a project is launched: elsewhere, and on some servers alone."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from deployer.models import Deployment, Release
from deployer.repositories.mirror import fetch
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.git import GitRepository
from tests.parts.person import PASSWORD, log_in

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_launch_elsewhere_is_ticked_twice_and_single_servers_are_picked(page: Page, queue_server: object) -> None:
    project = make_project(name="Shop", environment="staging", may_launch_elsewhere=True)
    web = make_group(make_server(name="web-1"), make_server(name="web-2"), name="web", environment="staging")
    make_group(make_server(name="far-1"), make_server(name="far-2"), name="far", environment="staging")
    project.server_groups.add(web)
    make_user("ada", PASSWORD)
    log_in(page, reverse("launch", args=[project.pk]) + "?type=restart_only", "ada")
    order = page.locator("#changes")
    expect(order).to_contain_text("web-2")
    page.get_by_text("Only some servers").click()
    page.get_by_role("checkbox", name=re.compile("web-2 ")).check()
    expect(order).to_contain_text("1 of 2 servers of web")
    expect(order).not_to_contain_text("web-1")

    page.get_by_text("Other groups").click()
    meant = page.get_by_role("checkbox", name="Yes, for the first time there")
    expect(meant).to_be_hidden()
    page.get_by_role("checkbox", name=re.compile("^far far-1")).check()
    expect(meant).to_be_visible()
    page.get_by_role("checkbox", name=re.compile("^far-1 ")).check()
    expect(order).to_contain_text("far-1")
    page.get_by_role("checkbox", name=re.compile("^far far-1")).uncheck()
    expect(page.locator("#pick-servers")).to_contain_text("not in the chosen groups")
    page.get_by_role("button", name="Restart", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Not in “web”: “far-1”")
    assert not Deployment.objects.exists()

    page.get_by_text("Other groups").click()
    page.get_by_role("checkbox", name=re.compile("^far far-1")).check()
    expect(page.locator("#pick-servers")).not_to_contain_text("not in the chosen groups")
    page.get_by_role("button", name="Restart", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Confirm that it is to be launched elsewhere")
    meant.check()
    page.get_by_role("button", name="Restart", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("#")
    it = Deployment.objects.get()
    assert [*it.targets.order_by("server_name").values_list("server_name", flat=True)] == ["far-1", "web-2"]
    expect(page.locator(".parts")).to_contain_text("1 of 2 servers of far, 1 of 2 servers of web")


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_the_sentence_and_the_button_say_what_is_chosen_and_stay_in_view(
    page: Page, queue_server: object, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    project = make_project(name="Shop", environment="staging", batches="1", git_url="", deploy_script_path="/srv/r.sh")
    servers = [make_server(name=f"web-{number:02}") for number in range(1, 31)]
    web = make_group(*servers, name="web", environment="staging")
    project.server_groups.add(web)
    make_user("ada", PASSWORD)
    log_in(page, reverse("launch", args=[project.pk]), "ada")
    sentence = page.locator("#launch-sentence p")
    restart = page.get_by_role("button", name="Restart", exact=True)
    expect(sentence).to_have_text("Restart Shop on 30 servers of web, staging, one after the other")
    place = restart.bounding_box()
    for far in (0, 10_000):
        page.evaluate("far => window.scrollTo(0, far)", far)
        expect(sentence).to_be_in_viewport(ratio=1)
        expect(restart).to_be_in_viewport(ratio=1)
    page.evaluate("window.scrollTo(0, 0)")
    page.get_by_role("checkbox", name=re.compile("^web ")).uncheck()
    expect(sentence).to_have_text("Nothing is chosen yet.")
    page.evaluate("window.scrollTo(0, 0)")
    assert restart.bounding_box() == place
    page.get_by_text("Only some servers").click()
    page.get_by_role("checkbox", name=re.compile("^web ")).check()
    page.get_by_role("checkbox", name=re.compile("^web-07 ")).check()
    expect(sentence).to_have_text("Restart Shop on web-07 of web, staging")
    expect(page.locator("#launch-notes")).to_contain_text("Nothing was deployed there yet: web-07")
    page.get_by_role("radio", name=re.compile("Full")).check()
    expect(sentence).to_contain_text("Deploy ")
    expect(page.get_by_role("button", name="Deploy", exact=True)).to_be_visible()
    expect(restart).to_have_count(0)
    page.get_by_role("radio", name=re.compile("Restart only")).check()
    expect(sentence).to_contain_text("Restart Shop on web-07")

    # Somebody else is faster: the button says what pressing it does, at the same place.
    running = make_deployment(project, web, deployment_type="restart_only")
    page.get_by_role("checkbox", name=re.compile("^web-08 ")).check()
    wait = page.get_by_role("button", name="Wait in line", exact=True)
    expect(wait).to_be_visible()
    box = wait.bounding_box()
    assert box is not None
    assert place is not None
    assert (box["x"], box["width"]) == (place["x"], place["width"])
    expect(page.get_by_role("link", name=f"Watch deployment #{running.pk}").first).to_be_visible()
    wait.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("#")
    assert Deployment.objects.latest("pk").status == "queued"


def test_branches_tags_commits_and_releases_are_one_search_field(
    page: Page, queue_server: object, git_repo: GitRepository
) -> None:
    git_repo.branch("hotfix")
    git_repo.switch("main")
    git_repo.tag("v1")
    git_repo.commit({"a": "1"}, "Answer in JSON")
    project = make_project(name="Shop", environment="staging", git_url=git_repo.url)
    project.server_groups.add(make_group(make_server(name="web-1"), name="web", environment="staging"))
    Release.objects.create(project=project, version="r7", commit_message="Seven", archive="x")
    fetch(project)
    make_user("ada", PASSWORD)
    log_in(page, reverse("launch", args=[project.pk]) + "?type=full", "ada")
    field = page.get_by_role("combobox", name="Branch, tag, commit or release")
    found, sentence = page.get_by_role("listbox"), page.locator("#launch-sentence p")
    expect(page.get_by_label("Release", exact=True)).to_be_hidden()
    expect(found).to_be_hidden()
    expect(page.locator("#names [role=group]")).to_have_count(4)

    # By the keyboard: a commit by its subject.
    field.fill("json")
    expect(found.get_by_role("option")).to_have_count(1)
    field.press("ArrowDown")
    expect(found.get_by_role("option", selected=True)).to_contain_text("Answer in JSON")
    field.press("Enter")
    expect(found).to_be_hidden()
    expect(field).to_have_value(git_repo.head)
    expect(sentence).to_contain_text(f"Deploy {git_repo.head[:8]} to web-1")

    # A release by the pointer: it is the one of the form, and of the address.
    field.fill("sev")
    expect(found.get_by_role("option")).to_have_count(1)
    found.get_by_role("option", name=re.compile("r7")).click()
    expect(sentence).to_contain_text("Deploy release r7 to web-1")
    expect(page).to_have_url(re.compile("release=r7"))
    expect(page.get_by_label("Build again")).to_be_hidden()
    page.reload()
    expect(field).to_have_value("r7")

    # Another text takes it back; Escape closes the list alone, and Enter launches.
    field.fill("hotfi")
    expect(found.get_by_role("option")).to_have_count(1)
    expect(sentence).to_contain_text("Deploy hotfi to web-1")
    field.press("Escape")
    expect(found).to_be_hidden()
    field.fill("hotfix")
    expect(sentence).to_contain_text("of hotfix")
    field.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("#")
    it = Deployment.objects.get()
    assert (it.branch, it.release) == ("hotfix", None)
