"""A person launches, watches, filters, cancels, retries, rolls back and compares, with real workers and servers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from deployer.models import Deployment, LogLine
from projects.models import Project
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server, make_user
from tests.parts.git import GitRepository
from tests.parts.person import PASSWORD, log_in
from tests.parts.programs import wait_until
from tests.parts.sshd import OpenSSHServer
from tests.parts.worker import Worker

pytestmark = pytest.mark.django_db(transaction=True)

#: Says much, and waits for the test three times; fails where a file says so.
RESTART = """\
if [ -e ~/fail ]; then echo "the database does not answer" >&2; exit 3; fi
for number in $(seq 300); do echo "line $number of $DEPLOY_TYPE"; done
until [ -e ~/go-1 ]; do sleep 0.05; done
for number in $(seq 301 400); do echo "line $number"; done
until [ -e ~/go-2 ]; do sleep 0.05; done
echo "all is started"
"""


@dataclass
class Shop:
    """A project on two servers, one batch each; what its restart waits for is made by `go`."""

    project: Project
    group: ServerGroup
    machines: list[OpenSSHServer]
    repository: GitRepository

    def go(self, *steps: str) -> None:
        """Let the restart scripts go on."""
        for machine in self.machines:
            for step in steps:
                (machine.home / step).touch()


@pytest.fixture
def shop(make_sshd: Callable[..., OpenSSHServer], git_repo: GitRepository, worker: Worker) -> Shop:
    machines = [make_sshd(), make_sshd()]
    git_repo.commit({"restart.sh": RESTART}, "The first shop")
    project = make_project(
        name="Shop",
        git_url=git_repo.url,
        deploy_path="~/shop",
        deploy_script_path="restart.sh",
        batches="1, 100%",
        auto_install=False,
        build_script="printf '\\033[32mbuilt\\033[0m 10%%\\rbuilt 100%%\\n'",
    )
    servers = [make_server(machine, name=f"web-{number}") for number, machine in enumerate(machines, start=1)]
    return Shop(project, make_group(*servers, name="web"), machines, git_repo)


@pytest.fixture
def person(page: Page) -> Page:
    """The page of somebody who has logged in."""
    make_user("ada", PASSWORD)
    log_in(page, reverse("login"), "ada")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    return page


def status_of(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def server(page: Page, name: str) -> Locator:
    return page.locator(".target", has=page.get_by_role("link", name=name, exact=True))


def expect_end_of_log(page: Page) -> None:
    """The log is scrolled to its end, but for a line at most."""
    from_end = "(log => log.scrollHeight - log.scrollTop - log.clientHeight)(document.getElementById('log'))"
    wait_until(lambda: page.evaluate(from_end) < 24, "the end of the log")


def place_in_log(page: Page) -> int:
    """How far the log is scrolled, in pixels, once it does not move any more."""
    place: int = page.evaluate(
        """() => new Promise((done) => {
            let last = -1, frames = 0;
            const look = () => {
                const now = document.getElementById("log").scrollTop;
                frames = now === last ? frames + 1 : 0;
                last = now;
                if (frames > 5) done(now); else requestAnimationFrame(look);
            };
            look();
        })"""
    )
    return place


def test_a_full_deployment_is_launched_followed_left_alone_and_filtered(person: Page, shop: Shop) -> None:
    page = person
    page.goto(reverse("launch", args=[shop.project.pk]))
    page.get_by_role("radio", name=re.compile("Full")).check()
    expect(page.locator("#changes")).to_contain_text("2 servers, in this order")
    page.get_by_label("Type “Shop” to launch it").fill("Shop")
    page.get_by_role("button", name="Deploy", exact=True).click()

    log = page.get_by_role("log")
    expect(log).to_contain_text("line 300")
    expect(log.get_by_text("built 100%")).to_be_attached()
    assert "10%\r" not in log.inner_text()
    expect_end_of_log(page)
    expect(server(page, "web-1")).to_contain_text("Restarting")
    expect(server(page, "web-2")).to_contain_text("Uploaded")

    log.hover()
    page.mouse.wheel(0, -1500)  # whoever scrolls up reads on undisturbed
    jump = page.get_by_role("button", name="To the end")
    expect(jump).to_be_visible()
    seen = place_in_log(page)
    shop.go("go-1")
    expect(log.get_by_text("line 400")).to_be_attached()
    assert place_in_log(page) == seen

    jump.click()  # and follows again from the end on
    expect(jump).to_be_hidden()
    expect_end_of_log(page)
    shop.go("go-2")
    expect(status_of(page)).to_contain_text("Success")
    expect(log).to_contain_text("Done: web-1, web-2")
    expect_end_of_log(page)
    expect(page).to_have_title(re.compile("^✓ Success"))
    expect(page.locator("#favicon")).to_have_attribute("href", re.compile(r"success\.svg"))
    timings = page.locator(".timings")
    for phase in ("Clone", "Build", "Upload", "Batch 1", "Batch 2"):
        expect(timings).to_contain_text(re.compile(rf"{phase} [\d.]+"))

    page.get_by_role("link", name="web-2", exact=True).click()
    expect(page).to_have_url(re.compile(r"\?server=\d+#log-title"))
    names = page.locator("#log-lines .from")
    expect(names.first).to_have_text("web-2")
    assert set(names.all_inner_texts()) == {"web-2"}
    page.locator("body").press("/")
    search = page.get_by_role("searchbox", name="Text")
    expect(search).to_be_focused()
    search.press_sequentially("line 39")
    page.get_by_role("button", name="Only these lines").click()
    expect(page.locator("#log-lines .line")).to_have_count(11)  # 39, 390 to 399
    expect(page.locator(".target.chosen")).to_contain_text("web-2")


def test_a_cancel_says_what_becomes_of_each_server_and_so_it_comes(person: Page, shop: Shop) -> None:
    page = person
    for machine in shop.machines:
        (machine.home / "shop" / "current").mkdir(parents=True)
        (machine.home / "shop" / "current" / "restart.sh").write_text(RESTART)
    it = make_deployment(shop.project, shop.group, deployment_type="restart_only")
    page.goto(it.get_absolute_url())
    expect(server(page, "web-1")).to_contain_text("Restarting")

    page.get_by_role("link", name="Cancel …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("row", name=re.compile("web-1"))).to_contain_text("finishes its restart and is verified")
    expect(dialog.get_by_role("row", name=re.compile("web-2"))).to_contain_text("is not touched")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    it.refresh_from_db()
    assert it.cancel_requested_at is None

    page.get_by_role("link", name="Cancel …").click()
    dialog.get_by_role("button", name="Cancel the deployment").click()
    expect(page.get_by_role("status").first).to_contain_text("was asked to stop")
    shop.go("go-1", "go-2")
    expect(status_of(page)).to_contain_text("Cancelled")
    expect(server(page, "web-1")).to_contain_text("Success")
    expect(server(page, "web-2")).to_contain_text("Cancelled")


def test_failed_servers_are_retried_a_release_is_rolled_back_and_two_deployments_are_compared(
    person: Page, shop: Shop
) -> None:
    page = person
    shop.go("go-1", "go-2")
    first = make_deployment(shop.project, shop.group)
    page.goto(first.get_absolute_url())
    expect(status_of(page)).to_contain_text("Success")

    shop.repository.commit({"restart.sh": RESTART, "cart.txt": "new"}, "Add the cart")
    Project.objects.filter(pk=shop.project.pk).update(script_timeout=77, batches="100%")
    shop.project.refresh_from_db()
    (shop.machines[1].home / "fail").touch()
    second = make_deployment(shop.project, shop.group)
    page.goto(second.get_absolute_url())
    expect(status_of(page)).to_contain_text("Failed")
    expect(page.get_by_role("alert")).to_contain_text("web-2")
    expect(page.locator("#log-error")).to_be_visible()

    page.get_by_role("link", name="Retry failed …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("On 1 server")
    expect(dialog.locator(".confirm-server")).to_contain_text("web-2")
    (shop.machines[1].home / "fail").unlink()
    dialog.get_by_role("button", name="Retry failed").click()
    expect(page.locator(".facts")).to_contain_text(f"Retry of #{second.pk}")
    expect(status_of(page)).to_contain_text("Success")

    retried = Deployment.objects.latest("id")
    page.goto(second.get_absolute_url())
    page.locator("#more-ways summary").click()
    expect(page.get_by_role("button", name="Roll back …")).to_be_disabled()  # a newer one has touched a server of it
    expect(page.locator("#rollback-refusal")).to_contain_text(f"#{retried.pk}")

    third = make_deployment(shop.project, shop.group, branch=shop.repository.commit({"a": "b"}, "Third"))
    page.goto(third.get_absolute_url())
    expect(status_of(page)).to_contain_text("Success")
    page.get_by_role("link", name="Roll back …").click()
    expect(dialog.get_by_role("listitem").first).to_contain_text("→")
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.locator(".facts")).to_contain_text(f"Rollback of #{third.pk}")
    expect(status_of(page)).to_contain_text("Success")
    expect(page.locator(".timings")).not_to_contain_text("Build")

    page.goto(reverse("deployments"))
    compare = page.get_by_role("button", name="Compare the two selected")
    expect(compare).to_be_hidden()
    page.get_by_label(f"Compare #{second.pk}").check()
    page.get_by_label(f"Compare #{first.pk}").check()
    compare.click()
    expect(page.get_by_role("row", name=re.compile("Script timeout"))).to_contain_text("77")
    expect(page.locator("section", has_text="Commits between").last).to_contain_text("Add the cart")
    row = page.get_by_role("row", name=re.compile("^web-2"))
    expect(row).to_contain_text("Success")
    expect(row).to_contain_text("Failed")


# --- the log alone, without a server behind it -----------------------------------------------------


@pytest.fixture
def long_log() -> Deployment:
    """A deployment that runs, with 3,000 lines; the 100th and the 2,900th are errors."""
    it = make_deployment(make_project(name="Shop"), make_group(make_server()), deployment_type="restart_only")
    it.claim_for_worker()
    now = timezone.now()
    LogLine.objects.bulk_create(
        LogLine(
            deployment=it,
            content=f"line {number}",
            timestamp=now,
            level="error" if number in {100, 2900} else "info",
        )
        for number in range(1, 3001)
    )
    return it


def test_an_address_names_lines_that_are_not_on_the_page(person: Page, long_log: Deployment) -> None:
    page = person
    page.goto(f"{long_log.get_absolute_url()}#L700-L710")
    expect(page.locator("#L700")).to_be_in_viewport()
    expect(page.locator(".picked .no")).to_have_text([str(number) for number in range(700, 711)])
    page.get_by_role("button", name="Load later lines").click()
    expect(page.locator("#L1600")).to_have_text(re.compile("line 1600"))
    page.get_by_role("button", name="Load earlier lines").click()
    expect(page.locator("#L200")).to_have_text(re.compile("line 200"))
    page.locator(".log-jump").click()
    expect(page.locator("#L3000")).to_be_in_viewport()


def test_the_next_error_is_found_also_where_it_is_not_on_the_page(person: Page, long_log: Deployment) -> None:
    page = person
    page.goto(long_log.get_absolute_url())
    following = page.get_by_role("link", name="Next error")
    following.click()  # from the end on: the first one, far above
    expect(page.locator("#L100")).to_be_in_viewport()
    following.click()
    expect(page.locator("#L2900")).to_be_in_viewport()
    following.click()
    expect(page.locator("#L100")).to_be_in_viewport()


def test_each_line_says_when_by_the_clock_or_since_the_launch_and_the_browser_remembers_it(
    person: Page, long_log: Deployment
) -> None:
    page = person
    page.goto(long_log.get_absolute_url())
    last = page.locator("#L3000 time")
    expect(last).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    page.get_by_role("button", name="Times since the launch").click()
    expect(last).to_have_text(re.compile(r"^\d+:\d\d\.\d$"))
    late = long_log.created_at + timedelta(hours=2, minutes=3, seconds=4)
    LogLine.objects.create(deployment=long_log, content="late", timestamp=late)
    expect(page.locator("#L3001 time")).to_have_text("2:03:04")
    page.reload()
    expect(page.locator("#L3001 time")).to_have_text("2:03:04")
    page.get_by_role("button", name="Load earlier lines").click()
    expect(page.locator("#L2400 time")).to_have_text(re.compile(r"^\d+:\d\d\.\d$"))
    page.get_by_role("button", name="Times by the clock").click()
    expect(last).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    last.hover()
    expect(last).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d .* UTC$"))


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_the_launch_is_in_reach_and_stays_where_it_is_however_many_servers_are_chosen(
    person: Page, size: tuple[int, int]
) -> None:
    page = person
    page.set_viewport_size({"width": size[0], "height": size[1]})
    servers = [make_server(name=f"web-{number}") for number in range(50)]
    project, small, large = make_project(name="Shop"), make_group(*servers[:3]), make_group(*servers)
    button = page.get_by_role("button", name="Deploy", exact=True)
    places = []
    for chosen in ("", f"?group={small.pk}", f"?group={large.pk}"):
        page.goto(reverse("launch", args=[project.pk]) + chosen)
        places.append(button.bounding_box())
        expect(page.locator("#changes").locator(".server-chip, .choose-group").first).to_be_attached()
        places.append(button.bounding_box())
        expect(button).to_be_in_viewport(ratio=1)
    assert places.count(places[0]) == len(places), places


def test_what_somebody_has_opened_stays_open_while_the_servers_go_on(person: Page, long_log: Deployment) -> None:
    page = person
    long_log.targets.update(evidence="== app.log\nno space left on device")
    page.goto(long_log.get_absolute_url())
    page.get_by_text("Evidence from the server").click()
    expect(page.get_by_text("no space left on device")).to_be_visible()
    long_log.targets.update(status="checking")
    expect(page.locator(".target")).to_contain_text("Checking")
    expect(page.get_by_text("no space left on device")).to_be_visible()


def test_its_line_stays_in_view_and_its_menu_works_by_the_keyboard(person: Page, long_log: Deployment) -> None:
    page = person
    Deployment.objects.filter(pk=long_log.pk).update(status="deploying", deployment_type="full")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(long_log.get_absolute_url())
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.get_by_role("heading", level=1)).to_be_in_viewport(ratio=0.9)
    expect(page.get_by_role("link", name="Cancel …")).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("navigation", name="Main")).not_to_be_in_viewport()
    more, abort = page.locator("#more-ways summary"), page.get_by_role("link", name="Abort and roll back …")
    expect(abort).to_be_hidden()
    more.press("Enter")
    expect(abort).to_be_in_viewport(ratio=1)
    long_log.targets.update(status="restarting")  # it is drawn anew, and stays open
    expect(page.locator(".target")).to_contain_text("Restarting")
    expect(abort).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(abort).to_be_hidden()
    expect(more).to_be_focused()


def test_a_commit_that_is_shown_short_is_copied_whole(person: Page, long_log: Deployment) -> None:
    page = person
    Deployment.objects.filter(pk=long_log.pk).update(commit_hash="b99f165d" * 5)
    page.goto(long_log.get_absolute_url())
    page.evaluate("addEventListener('copy', (event) => { window.copied = event.clipboardData.getData('text/plain'); })")
    page.locator(".hash").click()
    page.keyboard.press("Control+c")
    wait_until(lambda: page.evaluate("window.copied"), "the copy")
    assert page.evaluate("window.copied") == "b99f165d" * 5


def test_a_stop_of_the_way_leads_to_its_place_in_the_log(person: Page, long_log: Deployment) -> None:
    page = person
    late = long_log.created_at + timedelta(hours=2)
    LogLine.objects.create(deployment=long_log, content="its turn", timestamp=late)
    LogLine.objects.create(deployment=long_log, content="more of it", timestamp=late + timedelta(minutes=1))
    long_log.targets.update(status="restarting", begun_at=late)
    page.goto(long_log.get_absolute_url())
    page.evaluate("window.kept = true")
    page.get_by_role("link", name=re.compile("^Restart")).click()
    expect(page.locator(".picked .text")).to_have_text("its turn")
    assert page.evaluate("window.kept")
    page.get_by_role("link", name=re.compile("^Connect")).click()  # that is not on the page: the page around it
    expect(page).to_have_url(re.compile(r"\?at=1#L1$"))
    expect(page.locator("#L1")).to_be_in_viewport()


def test_many_servers_are_squares_that_tell_their_names(person: Page) -> None:
    page = person
    servers = [make_server(name=f"web-{number:02}") for number in range(1, 31)]
    it = make_deployment(make_project(name="Shop"), make_group(*servers), deployment_type="restart_only")
    it.claim_for_worker()
    page.goto(it.get_absolute_url())
    squares = page.locator(".square")
    expect(squares).to_have_count(30)
    seventh = page.get_by_role("link", name="web-07: Waiting")
    card = page.locator(".square-card", has_text="web-07")
    expect(card).to_be_hidden()
    seventh.hover()
    expect(card).to_be_visible()
    page.get_by_role("link", name="web-06: Waiting").focus()
    expect(page.locator(".square-card", has_text="web-06")).to_contain_text("192.0.2.1")
    it.targets.filter(server_name="web-20").update(status="failed", error="no space left")
    line = page.locator(".target:not(.square)")
    expect(line).to_contain_text("no space left")
    tops = page.evaluate("[...document.querySelectorAll('.target')].map((it) => it.getBoundingClientRect().top)")
    assert line.bounding_box()["y"] == min(tops)  # type: ignore[index]
    seventh.click()
    expect(page.locator(".target.chosen details.strip")).to_have_attribute("open", "")


#: The browser's own would show a window of the desktop that a test cannot look at.
NOTIFICATIONS = """
window.told = [];
window.Notification = class {
  static permission = localStorage.getItem("allowed") ?? "default";
  static async requestPermission() {
    localStorage.setItem("allowed", "granted");
    return (this.permission = "granted");
  }
  constructor(title, options) { window.told.push(`${title} | ${options.body}`); }
};
"""


def test_whoever_has_asked_is_told_of_the_end_and_the_browser_remembers_it(person: Page, long_log: Deployment) -> None:
    page = person
    page.add_init_script(NOTIFICATIONS)
    page.goto(long_log.get_absolute_url())
    tell = page.locator("#tell")
    expect(tell).to_have_text("Notify me when it ends")
    assert page.evaluate("Notification.permission") == "default"  # nobody is asked before they want it
    tell.click()
    expect(tell).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(tell).to_have_text("You will be notified when it ends")
    long_log.end(Deployment.Status.FAILED, "web-1 does not answer")
    expect(status_of(page)).to_contain_text("Failed")
    wait_until(lambda: page.evaluate("window.told.length"), "the notification")
    told = page.evaluate("window.told")
    assert len(told) == 1
    assert told[0].startswith("Shop: Failed | ")
    assert "web-1 does not answer" in told[0]
    expect(tell).to_be_hidden()
