"""Promises of the log in folds: a line is where it was said, and a fold says how that has gone."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployer.board.folds import states_of
from deployer.log.reading import News
from deployer.models import Deployment, LogLine, StepRun, Target
from tests.factories import make_deployment, make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user("maria"))
    return client


class Story:
    """A full deployment to three servers in two batches, of which one fails, told second by second."""

    def __init__(self) -> None:
        servers = [make_server(name=f"web-{number}") for number in (1, 2, 3)]
        self.it = make_deployment(make_project(batches="1, 100%"), make_group(*servers))
        self.it.claim_for_worker()
        self.began = timezone.now() - timedelta(minutes=5)
        self.targets = list(self.it.targets.order_by("id"))
        self.said: list[LogLine] = []

    def at(self, second: float) -> datetime:
        return self.began + timedelta(seconds=second)

    def say(self, second: float, text: str, target: Target | None = None, **values: Any) -> None:
        values = {"stream": "stdout", "level": "info"} | values
        self.said.append(LogLine(deployment=self.it, target=target, content=text, timestamp=self.at(second), **values))

    def step(self, begun: float, ended: float, name: str, moment: str, target: Target | None) -> StepRun:
        return StepRun.objects.create(
            deployment=self.it,
            target=target,
            step=name,
            moment=moment,
            status="done",
            key=f"{name}{target and target.pk}",
            fingerprint="x",
            started_at=self.at(begun),
            finished_at=self.at(ended),
        )

    def tell(self) -> Deployment:
        """All of it, as it is once it has failed."""
        first, second, third = self.targets
        self.say(0.1, "fetching", stream="system")
        self.say(1.1, "building")
        self.say(2.1, "— Deploying —", stream="system")
        self.say(3.2, "sent", third)  # the last one first: they are side by side
        self.say(3.3, "sent", first)
        self.prepare = self.step(3.4, 3.6, "Install", "prepare", first)
        self.say(3.5, "installs", first)
        self.migrate = self.step(4, 4.5, "Migrate", "before_all", first)
        self.say(4.2, "migrates", first)
        self.say(5, "Batch 1 of 2", stream="system")
        self.drain = self.step(5.1, 5.3, "Drain", "before", first)
        self.say(5.2, "drains", first)
        self.say(6.1, "restarts", first)
        self.say(7.1, "is healthy", first)
        self.say(8.1, "✔ web-1", first, stream="system")
        self.say(9, "Batch 2 of 2", stream="system")
        self.say(10.1, "restarts", second)
        self.say(10.2, "restarts", third)
        self.say(10.3, "no database", second, stream="stderr")
        self.say(11.1, "✘ web-2", second, stream="system", level="error")
        self.say(13, "1 of 3 servers failed", stream="system", level="error")
        LogLine.objects.bulk_create(self.said)
        moments = {
            first: ("success", 2.5, 3.3, 6, 7, 8, 0),
            second: ("failed", 2.5, 3.3, 10, 11, 11, 3),
            third: ("success", 2.5, 3.3, 10, 12, 12, 0),
        }
        for target, (status, *seconds, code) in moments.items():
            names = ("started_at", "staged_at", "begun_at", "checking_at", "finished_at")
            values = dict(zip(names, map(self.at, seconds), strict=True))
            batch = 1 if target == first else 2
            Target.objects.filter(pk=target.pk).update(status=status, batch=batch, exit_code=code, **values)
        Deployment.objects.filter(pk=self.it.pk).update(
            status="failed",
            started_at=self.at(0),
            building_at=self.at(1),
            deploying_at=self.at(2),
            finished_at=self.at(14),
        )
        self.it.refresh_from_db()
        return self.it


@pytest.fixture
def story() -> Story:
    return Story()


def folds_in(html: str) -> dict[int, list[str]]:
    """The folds of each line of a page by its number, from the outermost in."""
    found, path = {}, []
    for opened, line, _closed in re.findall(r'data-fold="(\w+)"|id="L(\d+)"|(</details>)', html):
        if opened:
            path.append(opened)
        elif line:
            found[int(line)] = [*path]
        elif path:
            path.pop()
    return found


def expected(story: Story) -> dict[int, list[str]]:
    first, second, third = (target.pk for target in story.targets)
    return {
        1: ["clone"],
        2: ["build"],
        3: [],
        4: ["upload", f"u{third}"],
        5: ["upload", f"u{first}"],
        6: ["upload", f"u{first}", f"s{story.prepare.pk}"],
        7: [f"s{story.migrate.pk}"],
        8: [],
        9: ["b1", f"t{first}", f"s{story.drain.pk}"],
        10: ["b1", f"t{first}", f"r{first}"],
        11: ["b1", f"t{first}", f"c{first}"],
        12: ["b1", f"t{first}"],
        13: [],
        14: ["b2", f"t{second}", f"r{second}"],
        15: ["b2", f"t{third}", f"r{third}"],
        16: ["b2", f"t{second}", f"r{second}"],
        17: ["b2", f"t{second}"],
        18: [],
    }


def test_each_line_is_in_the_folds_of_its_phase_its_server_and_its_step(client: Client, story: Story) -> None:
    html = client.get(story.tell().get_absolute_url()).content.decode()
    assert folds_in(html) == expected(story)
    first, _second, third = (target.pk for target in story.targets)
    assert html.index(f'data-fold="u{first}"') < html.index(f'data-fold="u{third}"')  # in the deployment's order


def test_a_poll_tells_the_same_folds_by_its_one_statement(story: Story, django_assert_num_queries: Any) -> None:
    it = story.tell()
    with django_assert_num_queries(2):  # it is over: the second one asks whether lines are packed
        news = News.of(it.pk, 0, folded=True)
    assert news is not None
    told = {row.number: [fold.key for fold in folds] for row, folds in zip(news.rows, news.folds, strict=True)}
    assert told == expected(story)


def test_earlier_lines_come_in_their_folds(client: Client, story: Story) -> None:
    it = story.tell()
    newest = LogLine.objects.get(deployment=it, number=15)
    html = client.get(reverse("deployment_earlier", args=[it.pk]), {"before": newest.pk}).content.decode()
    assert folds_in(html) == {number: folds for number, folds in expected(story).items() if number < 15}


def test_a_fold_says_how_it_has_gone_and_how_long_it_took(story: Story) -> None:
    it = story.tell()
    found = states_of(it, it.targets.all(), it.step_runs.all())
    first, second, third = (target.pk for target in story.targets)
    told = {
        key: (found[key].status, (found[key].ended - found[key].began).total_seconds())  # type: ignore[operator]
        for key in ("clone", "build", "upload", "b1", "b2", f"t{second}", f"r{second}", f"r{third}", f"c{third}")
    }
    assert told == {
        "clone": ("success", 1),
        "build": ("success", 1),
        "upload": ("success", 0.8),
        "b1": ("success", 2),
        "b2": ("failed", 2),
        f"t{second}": ("failed", 1),
        f"r{second}": ("failed", 1),
        f"r{third}": ("success", 2),
        f"c{third}": ("success", 0),
    }
    assert found[f"t{first}"].status == "success"


def opened_in(html: str) -> list[str]:
    return re.findall(r'data-fold="(\w+)"[^>]* open>', html)


def test_what_has_failed_is_open_at_its_first_failure(client: Client, story: Story) -> None:
    it = story.tell()
    second = story.targets[1].pk
    assert opened_in(client.get(it.get_absolute_url()).content.decode()) == ["b2", f"t{second}", f"r{second}"]


def test_what_went_well_is_closed_and_what_is_filtered_open(client: Client, story: Story) -> None:
    it = story.tell()
    Deployment.objects.filter(pk=it.pk).update(status="success")
    html = client.get(it.get_absolute_url()).content.decode()
    assert not opened_in(html)
    html = client.get(it.get_absolute_url(), {"text": "restarts"}).content.decode()
    assert len(opened_in(html)) == html.count('<details class="fold')


def test_what_goes_on_is_open(client: Client, story: Story) -> None:
    it = story.tell()
    third = story.targets[2]
    Deployment.objects.filter(pk=it.pk).update(status="deploying", finished_at=None)
    Target.objects.filter(pk=third.pk).update(status="restarting", checking_at=None, finished_at=None)
    html = client.get(it.get_absolute_url()).content.decode()
    assert opened_in(html) == ["b2", f"t{third.pk}", f"r{third.pk}"]


def test_a_failure_far_from_the_end_of_the_log_is_what_the_page_shows(client: Client, story: Story) -> None:
    it = story.tell()
    for number in range(700):
        LogLine.objects.create(
            deployment=it, target=story.targets[2], content=f"line {number}", timestamp=story.at(11.5), stream="stdout"
        )
    html = client.get(it.get_absolute_url()).content.decode()
    assert 'data-at="17"' in html
    assert 'id="L17"' in html


def test_a_text_is_found_in_the_whole_log_by_its_numbers(client: Client, story: Story) -> None:
    it = story.tell()
    url = reverse("deployment_find", args=[it.pk])
    assert client.get(url, {"text": "RESTARTS"}).json() == {"lines": [10, 14, 15], "more": False}
    assert client.get(url, {"text": "restarts", "server": str(story.targets[0].pk)}).json()["lines"] == [10]
    assert client.get(url).json() == {"lines": [], "more": False}
    LogLine.objects.bulk_create(LogLine(deployment=it, content="x", timestamp=story.at(20)) for _number in range(600))
    found = client.get(url, {"text": "x"}).json()
    assert len(found["lines"]) == 500
    assert found["more"]


def test_the_log_around_a_line_comes_without_the_rest_of_the_page(client: Client, story: Story) -> None:
    it = story.tell()
    html = client.get(reverse("deployment_around", args=[it.pk]), {"at": 15}).content.decode()
    assert folds_in(html) == expected(story)
    assert opened_in(html) == ["b2", f"t{story.targets[2].pk}", f"r{story.targets[2].pk}"]
    assert "<h1" not in html
    assert client.get(reverse("deployment_around", args=[it.pk + 1])).status_code == 404


def test_a_restart_of_one_batch_has_its_servers_outermost(client: Client) -> None:
    servers = [make_server(name=f"web-{number}") for number in (1, 2)]
    it = make_deployment(make_project(), make_group(*servers), deployment_type="restart_only")
    it.claim_for_worker()
    now = timezone.now()
    one, _two = it.targets.order_by("id")
    Target.objects.filter(pk=one.pk).update(begun_at=now, status="restarting")
    LogLine.objects.create(deployment=it, content="Restart of …", timestamp=now)
    LogLine.objects.create(deployment=it, target=one, content="its key", timestamp=now - timedelta(seconds=1))
    LogLine.objects.create(deployment=it, target=one, content="goes", timestamp=now + timedelta(seconds=1))
    html = client.get(it.get_absolute_url()).content.decode()
    assert folds_in(html) == {1: [], 2: [f"t{one.pk}"], 3: [f"t{one.pk}", f"r{one.pk}"]}
