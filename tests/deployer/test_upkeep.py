"""What an installation keeps, what it packs and what it deletes; and that whoever reads sees no difference."""

import os
import re
import subprocess
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from deployer.database import AT_ONCE
from deployer.log import packing as codec
from deployer.log.packing import PackedLine, pack, unpack
from deployer.log.reading import LOG_ROWS, News
from deployer.log.stored import StoredLog
from deployer.log.text import text_of
from deployer.models import Deployment, LogChunk, LogLine, Standing, Tally, Target
from deployer.repositories.mirror import mirror_path
from deployer.upkeep import packing
from deployer.upkeep.going import keep_up
from deployer.upkeep.retention import needed_of, retiring
from deployer.watching.figures import figures
from projects.models import Project
from servers.models import ServerGroup
from tests.factories import make_deployment, make_group, make_project, make_server, make_user

pytestmark = pytest.mark.django_db

WORDS = ("compiling", "Übersetzen", "\x1b[31mred\x1b[0m", "编译", "a “quoted” \\ word", "x" * 300)


def ended_long_ago(it: Deployment, days: float = 1.0) -> Deployment:
    """As if it had ended so many days ago."""
    moment = timezone.now() - timedelta(days=days)
    Deployment.objects.filter(pk=it.pk).update(
        status="success", created_at=moment, started_at=moment, finished_at=moment + timedelta(seconds=30)
    )
    it.refresh_from_db()
    return it


def with_log(lines: int, project: Project | None = None) -> Deployment:
    """A deployment on two servers that is over, and has a log of so many lines; each hundredth is an error."""
    it = make_deployment(project or make_project(), make_group(make_server(), make_server()))
    servers = [None, *it.targets.values_list("pk", flat=True)]
    begun = timezone.now() - timedelta(days=1)
    LogLine.objects.bulk_create(
        LogLine(
            deployment=it,
            target_id=servers[number // 5 % 3],
            stream="stdout" if number % 7 else "system",
            level="error" if number % 100 == 0 else "warning" if number % 30 == 0 else "info",
            content=f"{number} {WORDS[number % len(WORDS)]}",
            timestamp=begun + timedelta(milliseconds=number // 3),
        )
        for number in range(1, lines + 1)
    )
    return ended_long_ago(it)


def packed(turns: int | None = None) -> None:
    """Pack so many chunks, or all."""
    for number, _lines in enumerate(packing.packing(), 1):
        if number == turns:
            return


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LINES", 100)


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(make_user("boss"))
    return client


# --- packed logs ------------------------------------------------------------------------------------------


def test_lines_come_out_as_they_went_in() -> None:
    now = timezone.now()
    lines = [
        PackedLine(
            *(pk, number, (1, 1, None)[number % 3], "stdout" if number < 50 else "stderr", "info"),
            *(now + timedelta(seconds=number // 4), f"{number} {WORDS[number % len(WORDS)]}"),
        )
        for number, pk in enumerate([*range(10, 40), *range(50, 80)], 1)
    ]
    assert [*unpack(pack(lines))] == lines
    assert [*codec.unpack_if(pack(lines), "übersetzen")] == lines
    assert [*codec.unpack_if(pack(lines), "“QUOTED” \\")] == lines
    assert [*codec.unpack_if(pack(lines), "\x1b[31m")] == lines
    assert [*codec.unpack_if(pack(lines), "nowhere")] == []


def test_a_packed_log_takes_a_tenth_of_the_room() -> None:
    it = with_log(3_000)
    rows = sum(len(line.content) + 64 for line in LogLine.objects.filter(deployment=it))
    packed()
    assert not LogLine.objects.exists()
    assert sum(len(chunk.packed) for chunk in LogChunk.objects.all()) < rows / 10


def _asked(it: Deployment) -> list[str]:
    """Addresses of all that reads a log, with the ids and numbers of lines of it."""
    ids = [line.pk for line in StoredLog(it.pk, is_over=True).after(0, 10_000)]
    server = it.targets.values_list("pk", flat=True).last()
    page = it.get_absolute_url()
    asked = [page, f"{page}?at=1", f"{page}?at=650", f"{page}?at=1300", f"{page}?text=COMPILING", f"{page}?text=编译"]
    asked += [
        f"{page}?level=error",
        f"{page}?level=warning&server={server}",
        f"{page}?stream=system",
        f"{page}?text=zz",
    ]
    earlier, later = reverse("deployment_earlier", args=[it.pk]), reverse("deployment_later", args=[it.pk])
    for pk in (ids[0], ids[99], ids[100], ids[640], ids[-1]):
        asked += [f"{earlier}?before={pk}", f"{earlier}?before={pk}&level=error", f"{earlier}?before={pk}&text=red"]
        asked += [f"{later}?after={pk}", f"{reverse('deployment_error', args=[it.pk])}?after={pk}"]
    asked += [f"{reverse('deployment_around', args=[it.pk])}?at={number}" for number in (0, 1, 100, 101, 777, 9_999)]
    asked += [f"{reverse('deployment_find', args=[it.pk])}?text={text}" for text in ("red", "Über", "999", "nowhere")]
    return [*asked, reverse("deployment_log", args=[it.pk])]


def _answers(client: Client, asked: list[str]) -> dict[str, str]:
    """What is answered, without what is new each time."""
    answers = {}
    for address in asked:
        answer = client.get(address, headers={"HX-Request": "true"})
        text = b"".join(answer.streaming_content).decode() if answer.streaming else answer.content.decode()  # type: ignore[attr-defined]
        text = re.sub(
            r'data-now="[^"]*"|nonce="[^"]*"|pass=[^&"]*|csrfmiddlewaretoken" value="\w+|"X-CSRFToken": ?"\w+', "", text
        )
        answers[address] = f"{answer.status_code} {answer.headers.get('Location', '')} {' '.join(text.split())}"
    return answers


@pytest.mark.usefixtures("small_chunks")
def test_whoever_reads_a_packed_log_sees_no_difference(client: Client) -> None:
    it = with_log(1_300)
    asked = _asked(it)
    before = _answers(client, asked)
    assert "1300 " in before[asked[0]]
    for _some in range(2):
        packed(5)
        assert LogLine.objects.exists()
        after = _answers(client, asked)
        assert [address for address in asked if after[address] != before[address]] == []
    packed()
    assert not LogLine.objects.exists()
    after = _answers(client, asked)
    assert [address for address in asked if after[address] != before[address]] == []


@pytest.mark.usefixtures("small_chunks")
def test_the_api_and_the_command_line_read_a_packed_log_in_order() -> None:
    it = with_log(1_300)

    def whole() -> list[Any]:
        rows, after = [], 0
        while (news := News.of(it.pk, after)) and news.rows:
            assert len(news.rows) <= LOG_ROWS
            rows += news.rows
            after = news.last_id
        return rows

    before, text = whole(), "".join(text_of(it))
    for turns in (3, 4, None):
        packed(turns)
        assert whole() == before
        assert "".join(text_of(it)) == text


@pytest.mark.usefixtures("small_chunks")
def test_lines_that_are_packed_while_somebody_reads_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    it = with_log(900)
    log = StoredLog(it.pk, is_over=True)
    numbers = list(range(1, 901))
    chunks = StoredLog.chunks.fget  # type: ignore[attr-defined]

    def meanwhile(self: StoredLog) -> Any:
        packed(2)
        return chunks(self)

    monkeypatch.setattr(StoredLog, "chunks", property(meanwhile))
    for read in (lambda: log.after(0, 1_000), lambda: log.before(None, 1_000)):
        assert [line.number for line in read()] == numbers
    assert [line.number for line in log.errors(100)] == numbers[99::100]
    assert LogLine.objects.exists()


def test_a_log_is_packed_once_its_deployment_is_over_for_an_hour() -> None:
    it = with_log(10)
    Deployment.objects.filter(pk=it.pk).update(finished_at=timezone.now() - timedelta(minutes=50))
    active = make_deployment(make_project(), make_group(make_server()))
    LogLine.objects.create(deployment=active, content="x", timestamp=timezone.now())
    packed()
    assert not LogChunk.objects.exists()


def test_two_who_pack_at_once_lose_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    it = with_log(30)
    chunk = packing._chunk
    stale = chunk(it.pk)
    packed()
    monkeypatch.setattr(packing, "_chunk", lambda _pk: stale)
    assert packing._pack_some(it.pk) == 0
    assert [line.number for line in StoredLog(it.pk, is_over=True).after(0, 100)] == list(range(1, 31))


# --- retention --------------------------------------------------------------------------------------------


def deployed(project: Project, group: ServerGroup, before: str, after: str, *, days: float, good: bool = True) -> int:
    """A deployment that changed the release of a group's servers so many days ago; its number."""
    it = make_deployment(project, group)
    ended_long_ago(it, days)
    for target in it.targets.all():
        target.started_at = target.begun_at = target.finished_at = it.finished_at
        target.release_before, target.release_after = before, after
        target.status = "success" if good else "failed"
        target.evidence = "" if good else "the log of the application"
        target.save()
    if not good:
        Deployment.objects.filter(pk=it.pk).update(status="failed")
    LogLine.objects.bulk_create(
        LogLine(deployment=it, content=str(n), timestamp=it.finished_at or timezone.now()) for n in range(5)
    )
    return it.pk


def retired() -> None:
    for _rows in retiring():
        pass


@pytest.fixture
def group() -> ServerGroup:
    return make_group(make_server(name="web-1"), make_server(name="web-2"))


def test_what_is_live_previous_or_the_last_that_went_well_stays(group: ServerGroup, settings: Any) -> None:
    settings.DEPLOYER_DEPLOYMENT_DAYS = settings.DEPLOYER_LOG_DAYS = 30
    project = make_project()
    first = deployed(project, group, "", "v1", days=900)
    for number in range(2, 20):
        deployed(project, group, f"v{number - 1}", f"v{number}", days=900 - number)
    restarts = [deployed(project, group, "v19", "v19", days=500 - n) for n in range(5)]
    bad = deployed(project, group, "v19", "v20", days=400, good=False)
    before = {standing.server_id: standing.release for standing in Standing.objects.all()}
    retired()
    left = {*Deployment.objects.values_list("pk", flat=True)}
    assert first not in left
    assert restarts[0] not in left, "a restart that changed nothing"
    assert {bad, restarts[-1]} <= left, "what changed the servers last, and what went well last"
    assert Target.objects.filter(release_before="v19", release_after="v20").count() == 2
    assert {standing.server_id: standing.release for standing in Standing.objects.all()} == before
    assert LogLine.objects.filter(deployment=bad).count() == 5, "the log of what is kept is evidence"
    assert needed_of(project) == left


def test_age_and_number_are_those_of_the_project_and_else_of_the_installation(
    group: ServerGroup, settings: Any
) -> None:
    settings.DEPLOYER_DEPLOYMENT_DAYS = 100
    theirs, own, few = make_project(), make_project(keep_deployments_for=500), make_project(keep_deployments=3)
    for project in (theirs, own, few):
        for days in range(230, 20, -20):
            deployed(project, group, "v1", "v1", days=days)
    retired()
    ages = {
        project: [
            round((timezone.now() - it.created_at).days, -1) for it in project.deployments.order_by("-created_at")
        ]
        for project in (theirs, own, few)
    }
    assert ages[theirs] == [30, 50, 70, 90]
    assert len(ages[own]) == 11
    assert ages[few] == [30, 50, 70]
    few.keep_deployments = 2
    few.save()
    retired()
    assert few.deployments.count() == 2


def test_logs_and_evidence_go_before_their_deployment_and_say_so(
    group: ServerGroup, settings: Any, client: Client
) -> None:
    settings.DEPLOYER_LOG_DAYS, settings.DEPLOYER_EVIDENCE_DAYS = 30, 60
    project = make_project()
    old = deployed(project, group, "v0", "v0", days=90, good=False)
    middle = deployed(project, group, "v0", "v0", days=45, good=False)
    deployed(project, group, "v0", "v1", days=1)
    packed()
    retired()
    assert not LogChunk.objects.filter(deployment__in=[old, middle]).exists()
    assert Target.objects.filter(deployment=middle).exclude(evidence="").count() == 2
    assert not Target.objects.filter(deployment=old).exclude(evidence="").exists()
    page = client.get(f"/deployments/{old}/").content.decode()
    assert "The log was deleted on" in page
    assert "What the server showed then was deleted on" in page
    text = b"".join(client.get(reverse("deployment_log", args=[old])).streaming_content).decode()  # type: ignore[attr-defined]
    assert text.startswith("The log was deleted on")
    revisions = dict(Deployment.objects.values_list("pk", "revision"))
    retired()
    assert dict(Deployment.objects.values_list("pk", "revision")) == revisions, "nothing is written twice"


def test_what_waits_or_is_at_work_stays(group: ServerGroup, settings: Any) -> None:
    settings.DEPLOYER_DEPLOYMENT_DAYS = settings.DEPLOYER_DEPLOYMENTS = 1
    project = make_project()
    old = deployed(project, group, "v0", "v0", days=90, good=False)
    deployed(project, group, "v0", "v1", days=80)
    active = make_deployment(project, group)
    Deployment.objects.filter(pk=active.pk).update(retry_of=old, created_at=timezone.now() - timedelta(days=40))
    retired()
    assert Deployment.objects.filter(pk__in=[old, active.pk]).count() == 2


def test_no_transaction_deletes_more_than_a_thousand_rows(group: ServerGroup, settings: Any) -> None:
    settings.DEPLOYER_DEPLOYMENT_DAYS = 30
    project = make_project()
    old = deployed(project, group, "v0", "v0", days=90, good=False)
    deployed(project, group, "v0", "v1", days=1)
    now = timezone.now()
    LogLine.objects.bulk_create(LogLine(deployment_id=old, content="x", timestamp=now) for _line in range(2_500))
    rows = [*retiring()]
    assert max(rows) == AT_ONCE
    assert sum(rows) >= 2_505
    assert not Deployment.objects.filter(pk=old).exists()


def test_no_figure_falls_because_history_is_deleted(group: ServerGroup, settings: Any) -> None:
    settings.DEPLOYER_DEPLOYMENT_DAYS = 30
    project = make_project()
    for days in range(100, 90, -1):
        deployed(project, group, "v0", "v0", days=days, good=days % 3 > 0)
    before = figures()
    assert before.log_rows >= 50
    packed()
    retired()
    after = figures()
    assert Deployment.objects.count() < 10
    assert Tally.objects.exists()
    told = [{(it.type, it.status, it.count, round(it.seconds, 2)) for it in each.ended} for each in (before, after)]
    assert told[0] == told[1]
    assert sum(it.seconds for it in before.ended) == pytest.approx(300, abs=0.01)
    assert after.log_rows == before.log_rows


def test_ended_sessions_go_and_others_stay() -> None:
    now = timezone.now()
    Session.objects.create(session_key="a" * 32, expire_date=now - timedelta(days=1))
    Session.objects.create(session_key="b" * 32, expire_date=now + timedelta(days=1))
    retired()
    assert [*Session.objects.values_list("session_key", flat=True)] == ["b" * 32]


def test_mirrors_of_repositories_that_no_project_has_go_once_they_are_old(settings: Any, tmp_path: Any) -> None:
    settings.MIRRORS_DIR = tmp_path
    project = make_project(git_url="https://git.example.com/shop.git")
    paths = [mirror_path(url) for url in (project.git_url, "https://git.example.com/old.git", "https://x.example/new")]
    for path in paths:
        subprocess.run(["git", "init", "-q", "--bare", path], check=True)
    for path in paths[:2]:
        os.utime(path, (1, 1))
    retired()
    assert [path.exists() for path in paths] == [True, False, True]


# --- a pass -----------------------------------------------------------------------------------------------


def test_it_waits_while_a_deployment_writes(group: ServerGroup) -> None:
    it = with_log(10)
    active = make_deployment(make_project(), group)
    active.claim_for_worker()
    assert not keep_up()
    assert LogLine.objects.filter(deployment=it).count() == 10
    active.end(Deployment.Status.SUCCESS)
    assert keep_up()
    assert not LogLine.objects.filter(deployment=it).exists()


def test_a_pass_ends_after_a_while_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LINES", 10)
    with_log(100)
    for chunks in range(1, 11):
        assert not keep_up(patience=0.0)
        assert LogChunk.objects.count() == chunks
    while not keep_up(patience=0.0):
        assert not LogLine.objects.exists()


def test_prune_tells_what_would_go_and_then_what_went(
    group: ServerGroup, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.DEPLOYER_DEPLOYMENT_DAYS = 60
    settings.DEPLOYER_LOG_DAYS = 30
    project = make_project()
    deployed(project, group, "v0", "v0", days=90, good=False)
    deployed(project, group, "v0", "v0", days=45, good=False)
    deployed(project, group, "v0", "v1", days=1)
    call_command("prune", dry_run=True)
    assert "Would be deleted: 1 deployments, 1 logs" in capsys.readouterr().out
    assert Deployment.objects.count() == 3
    call_command("prune")
    assert "Deleted: 1 deployments, 1 logs" in capsys.readouterr().out
    assert Deployment.objects.count() == 2
    assert not LogLine.objects.exists()


def test_a_page_of_a_deployment_at_work_asks_nothing_of_packed_lines(group: ServerGroup, client: Client) -> None:
    active = make_deployment(make_project(), group)
    with CaptureQueriesContext(connection) as asked:
        assert client.get(active.get_absolute_url()).status_code == 200
        News.of(active.pk, 0)
    assert not [query for query in asked.captured_queries if "logchunk" in query["sql"]]
