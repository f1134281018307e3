"""What has changed since it was good: each kind of change with who and when, for whoever may see it, at one price."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from deployer.board.since import recorded
from deployer.board.since.events import Event, Kind, Window
from deployer.board.since.line import Asked, Line, of_project, of_server
from deployer.gates.keeping import close_lock, put_on_hold
from deployer.models import CommandRun, Deployment, Lock, Sighting
from people.acting import Actor, of_process
from people.models import ApiToken, User
from people.record import Act, actor, delete, record, saving
from people.roles import Role
from projects.commands.processes import MOMENT
from projects.models import AttachedSet, ConfigFile, HealthCheck, Project, SetVariable, Step, Variable, VariableSet
from servers.models import Server, ServerGroup
from tests.factories import (
    make_credential,
    make_deployment,
    make_group,
    make_member,
    make_project,
    make_server,
    make_user,
)
from tests.parts.html import tight

pytestmark = pytest.mark.django_db

FORMER_BOOT, BOOT = "11111111-2222-3333-4444-555555555555", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
KEYS = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAA", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBB")
SECRET = "hush-hush"


def process(boot: str, at: datetime, ticks: int) -> dict[str, Any]:
    """A process that began then, so many ticks after its machine."""
    return {"pid": 7, "command": "shop", "since": at.strftime(MOMENT), "start": ticks, "boot": boot}


class Story:
    """A project that was proved on two servers two hours ago; all that is changed afterwards is changed by Ada."""

    def __init__(self, ada: User) -> None:
        self.ada, self.now = ada, timezone.now()
        self.good_at = self.now - timedelta(hours=2)
        self.server: Server = make_server(name="web-1", credential=make_credential(hosts="192.0.2.1"))
        self.other: Server = make_server(name="web-2", credential=make_credential(hosts="192.0.2.1"))
        self.group: ServerGroup = make_group(self.server, self.other, name="web")
        self.project: Project = make_project(name="shop")
        self.project.server_groups.add(self.group)
        self.good = self.ended("success", self.good_at)
        known = {"before": [], "after": [process(FORMER_BOOT, self.good_at, 100)], "verdict": "replaced"}
        self.good.targets.update(proof=known | {"sentence": "", "name": "shop"})

    def ended(self, status: str, at: datetime, project: Project | None = None, **values: Any) -> Deployment:
        """A deployment of Ada that has ended so at that time, on each server alike."""
        it = make_deployment(project or self.project, self.group, created_by=self.ada, **values)
        moment = {"started_at": at - timedelta(minutes=1), "finished_at": at, "status": status}
        it.targets.update(**moment, begun_at=at, release_before="v1", release_after="v2")
        Deployment.objects.filter(pk=it.pk).update(**moment, created_at=at - timedelta(minutes=2))
        it.refresh_from_db()
        return it

    def save(self, row: Any, **values: Any) -> Any:
        """Change a row, or make it, so that the record knows."""
        with saving(row):
            for name, value in values.items():
                setattr(row, name, value)
            row.save()
        return row

    def command(self, *servers: Server) -> CommandRun:
        """Somebody runs a command."""
        run = CommandRun.objects.create(
            name="systemctl stop shop",
            script="x",
            environments=",production,",
            status="success",
            created_by=self.ada,
            started_at=timezone.now(),
        )
        for server in servers or (self.server,):
            values = {"server_name": server.name, "host": "x", "status": "done", "started_at": timezone.now()}
            run.targets.create(server=server, **values)
        return run

    def everything(self) -> None:
        """One more change of each kind."""
        number = Variable.objects.count()
        failed = self.ended("failed", timezone.now() - timedelta(minutes=30))
        failed.targets.update(error="port 80 is taken")
        self.save(ConfigFile(project=self.project, path=f"/etc/shop-{number}.conf", content=SECRET))
        variable = self.save(Variable(project=self.project, name=f"TOKEN_{number}", value=SECRET))
        self.save(variable, value=f"{SECRET}-{SECRET}")
        shared = self.save(VariableSet(name=f"shared-{number}", environment="production"))
        self.save(AttachedSet(project=self.project, variable_set=shared))
        self.save(SetVariable(variable_set=shared, name="SHARED", value=SECRET))
        self.save(Step(project=self.project, name=f"migrate-{number}", moment="before_all", script="true"))
        self.save(HealthCheck(project=self.project, kind="process", target=f"x{number}"))
        self.save(self.project, build_script=f"make {number}")
        self.command()
        self.save(self.server, port=2222 + number)
        self.save(self.group, description=f"{number}")
        self.save(self.server.credential, password=f"{SECRET}{number}")
        self.server.replace_host_key(self.server.host_key, KEYS[number % 2])
        close_lock(Lock(project=self.project, reason="leave it"), self.ada)
        close_lock(Lock(environment="production", reason="leave all of it"), self.ada)
        record(actor(), Act.OVERRODE, failed, note="it burns")
        self.server.record_connection("no route", {"boot_id": BOOT})
        changed = [{"path": f"/etc/x{each}", "what": "changed"} for each in range(number + 1)]
        Sighting.record(self.project, self.server, release="v9", processes=[], files=changed)


@pytest.fixture
def ada() -> Iterator[User]:
    user = make_user("ada")
    with of_process(Actor.of_command(user)):
        yield user


@pytest.fixture
def story(ada: User) -> Story:
    return Story(ada)


def whose(user: User) -> User:
    """The same person with nothing read of what they may."""
    return User.objects.get(pk=user.pk)


def line_of(story: Story, user: User | None = None, **asked: Any) -> Line:
    return of_server(whose(user or story.ada), Server.objects.get(pk=story.server.pk), Asked(**asked))


def line_of_project(story: Story, user: User | None = None, **asked: Any) -> Line:
    return of_project(whose(user or story.ada), story.project, Asked(**asked))


def named(events: Iterable[Event]) -> list[str]:
    """The things that entries are about, by name."""
    return [event.what.split()[0].rstrip(":") for event in events]


def of_kind(line: Line, kind: Kind) -> list[Event]:
    return [event for event in line.events if event.kind == kind]


def shown(client: Client, name: str, pk: int, query: str = "") -> str:
    answer = client.get(reverse(name, args=[pk]) + query)
    assert answer.status_code == 200
    return tight(answer.content.decode())


def test_each_kind_of_change_is_on_the_line_of_its_server_with_who_and_when(story: Story) -> None:
    story.everything()
    line = line_of(story)
    assert line.good is not None
    assert (line.good.deployment, line.good.is_proved) == (story.good.pk, True)
    assert {event.kind for event in line.events} == {*Kind}
    assert [event.at for event in line.events] == sorted((event.at for event in line.events), reverse=True)
    assert all(story.good_at < event.at <= timezone.now() for event in line.events)
    machines = {Kind.DRIFT, Kind.BY_HAND, Kind.REBOOT, Kind.CONNECTION}
    assert {event.kind for event in line.events if event.who == "ada"} == {*Kind} - machines
    (deployment,) = of_kind(line, Kind.DEPLOYMENT)
    assert (deployment.status, deployment.more) == ("failed", "v1 → v2 · port 80 is taken")
    assert len(of_kind(line, Kind.GATE)) == 3
    (connection_lost,) = of_kind(line, Kind.CONNECTION)
    assert connection_lost.more == "no route"


def test_one_sentence_says_what_has_changed(story: Story) -> None:
    assert "nothing that is known has changed" in line_of(story).sentence
    story.everything()
    story.ended("failed", story.now - timedelta(minutes=20))
    told = line_of(story).sentence
    assert told.startswith(f"Since #{story.good.pk} was proved here on ")
    assert "2 deployments, 1 config file, 4 variables, 1 step, settings of 2 things, 1 command, 1 reboot" in told


def test_kinds_and_people_are_chosen_by_links(story: Story) -> None:
    story.everything()
    client = Client()
    client.force_login(story.ada)

    name, pk = "server_since", story.server.pk
    text = shown(client, name, pk)
    links = dict(re.findall(r'<a class="chip" href="(\?[^"]*)"[^>]*>\s*(\w[^<]*?)\s*<', text))
    assert {*map(str.strip, links.values())} == {*(str(kind.label) for kind in Kind), "ada"}
    (variables,) = [query for query, label in links.items() if label == Kind.VARIABLE.label]
    chosen = shown(client, name, pk, variables)
    entries = set(re.findall(r'class="record-entry since-(\w+)"', chosen))
    assert entries == {"variable", "good"}, "and since when it is told"
    assert chosen.count('aria-current="true"') == 1 + text.count('aria-current="true"')
    by_ada = set(re.findall(r'class="record-entry since-(\w+)"', shown(client, name, pk, "?kind=drift&who=ada")))
    assert by_ada == {"good"}, "nobody is known to have done that"


def test_what_was_changed_before_the_good_launch_is_not_told_and_what_was_changed_during_it_is(story: Story) -> None:
    story.save(Variable(project=story.project, name="BEFORE", value="x"))
    launched = timezone.now()
    story.save(Variable(project=story.project, name="MEANWHILE", value="x"))
    good = story.ended("success", timezone.now() + timedelta(seconds=1))
    Deployment.objects.filter(pk=good.pk).update(created_at=launched)
    (told,) = line_of(story).events
    assert "MEANWHILE" in told.what
    (told,) = line_of_project(story).events
    assert "MEANWHILE" in told.what


def test_a_stop_is_no_good_end(story: Story) -> None:
    story.ended("success", story.now - timedelta(hours=1), deployment_type="restart_only")
    Deployment.objects.order_by("-pk")[:1].get().targets.update(server_name="x")
    newest = Deployment.objects.order_by("-pk")[0]
    Deployment.objects.filter(pk=newest.pk).update(deployment_type="stop")
    for line in (line_of(story), line_of_project(story)):
        assert line.good is not None
        assert line.good.deployment == story.good.pk


def test_from_a_failure_the_line_goes_until_it_was_good_again(story: Story) -> None:
    failed = story.ended("failed", story.now - timedelta(minutes=50))
    again = story.ended("success", story.now - timedelta(minutes=40))
    story.ended("failed", story.now - timedelta(minutes=20))
    for line in (line_of(story, deployment=failed.pk), line_of_project(story, deployment=failed.pk)):
        assert [event.number for event in of_kind(line, Kind.DEPLOYMENT)] == [again.pk, failed.pk]
        assert line.window.good_again is not None
        assert line.window.good_again.deployment == again.pk
        assert "until it was good again" in line.sentence
    assert [event.number for event in line_of(story).events] == [failed.pk + 2]


def test_where_nothing_was_ever_good_all_that_is_known_is_told(story: Story) -> None:
    Deployment.objects.update(status="failed")
    story.good.targets.update(status="failed")
    story.save(Variable(project=story.project, name="NAME", value="x"))
    for line in (line_of(story), line_of_project(story)):
        assert line.good is None
        assert {event.kind for event in line.events} == {Kind.DEPLOYMENT, Kind.VARIABLE}
        assert line.sentence.startswith("No good end is known.")


def test_variables_are_told_by_their_fingerprints_and_no_secret_is_on_any_page(story: Story) -> None:
    story.everything()
    maintainer = make_member(Role.MAINTAINER, "production")
    for user in (story.ada, maintainer):
        client = Client()
        client.force_login(user)
        for name, pk in (("server_since", story.server.pk), ("project_since", story.project.pk)):
            text = shown(client, name, pk)
            assert SECRET not in text
            assert "TOKEN_0" in text
            assert "fingerprint " in text
    (change,) = [
        change
        for event in of_kind(line_of(story), Kind.VARIABLE)
        if "TOKEN_0" in event.what and "changed" in event.what
        for change in event.changes
    ]
    assert change.before != change.after
    assert change.before.startswith("fingerprint ")


def test_the_reboot_is_told_at_the_moment_that_the_new_processes_tell(story: Story) -> None:
    booted = story.now - timedelta(minutes=25)
    began = booted + timedelta(minutes=5)
    Sighting.record(story.project, story.server, release="v2", processes=[process(BOOT, began, 30_000)])
    for line in (line_of(story), line_of_project(story)):
        (reboot,) = of_kind(line, Kind.REBOOT)
        assert abs(reboot.at - booted) < timedelta(seconds=2)
    assert reboot.server == "web-1"


def test_a_boot_that_was_seen_before_is_no_other_reboot(story: Story) -> None:
    Sighting.record(story.project, story.server, release="v2", processes=[process(BOOT, story.now, 100)])
    story.server.record_connection(facts={"boot_id": FORMER_BOOT})  # of an older look
    assert len(of_kind(line_of(story), Kind.REBOOT)) == 1


def test_host_keys_are_told_by_their_fingerprints(story: Story) -> None:
    story.server.pin_host_key(KEYS[0])
    story.server.replace_host_key(*KEYS)
    replaced, pinned = of_kind(line_of(story), Kind.HOST_KEY)
    assert replaced.changes[0].before == pinned.changes[0].after
    assert replaced.changes[0].after.startswith("SHA256:")


def test_a_config_file_is_told_with_its_version(story: Story) -> None:
    file = story.save(ConfigFile(project=story.project, path="/etc/shop.conf", content="x"))
    story.save(file, content="y")
    assert "version 2" in of_kind(line_of(story), Kind.FILE)[0].what


def test_what_is_for_another_server_alone_is_not_on_the_line_of_this_one(story: Story) -> None:
    gone = story.save(Variable(project=story.project, name="GONE", value="x", server=story.other))
    delete(gone)
    story.save(Variable(project=story.project, name="ELSEWHERE", value="x", server=story.other))
    story.save(Variable(project=story.project, name="HERE", value="x", server=story.server))
    story.save(Variable(project=story.project, name="AROUND", value="x", server_group=story.group))
    story.command(story.other)
    told = line_of(story).events
    assert named(told) == ["AROUND", "HERE"]
    assert len(line_of_project(story).events) == 6


def test_a_server_tells_of_the_other_projects_on_it_too(story: Story) -> None:
    another = make_project(name="blog")
    it = story.ended("failed", story.now - timedelta(minutes=10), another)
    assert [event.number for event in line_of(story).events] == [it.pk]
    story.save(Variable(project=another, name="NAME", value="x"))
    assert {event.kind for event in line_of(story).events} == {Kind.DEPLOYMENT, Kind.VARIABLE}
    assert [event.kind for event in line_of(story, project=story.project.pk).events] == [Kind.DEPLOYMENT]


def test_what_is_out_of_sight_is_left_out_and_counted(story: Story) -> None:
    story.everything()
    whole = line_of(story)
    secret = make_project(name="zz-hidden")
    story.ended("failed", story.now - timedelta(minutes=10), secret)
    story.save(Variable(project=secret, name="ZZ_HIDDEN", value="x"))
    viewer = make_member(Role.VIEWER, "", story.project.pk)
    client = Client()
    client.force_login(viewer)
    line = line_of(story, viewer)
    out_of_sight = {Kind.COMMAND}
    assert {event.kind for event in line.events} == {*Kind} - out_of_sight
    # the command, the login, and of the other project a deployment and a variable
    assert line.hidden == 4
    assert len(line.events) == len(whole.events) - 2
    text = shown(client, "server_since", story.server.pk)
    assert "4 things are out of your sight." in text
    assert "zz-hidden" not in text
    assert "ZZ_HIDDEN" not in text
    assert "systemctl" not in text


def test_a_viewer_is_told_that_a_setting_changed_and_an_editor_to_what(story: Story) -> None:
    story.save(story.project, build_script="make all")
    (change,) = of_kind(line_of_project(story, make_member(Role.VIEWER)), Kind.SETTING)[0].changes
    assert (change.name, change.before, change.after) == ("build script", "", "")
    (change,) = of_kind(line_of_project(story, make_member(Role.MAINTAINER)), Kind.SETTING)[0].changes
    assert change.after == "make all"


def test_outside_of_ones_sight_there_is_no_line(story: Story) -> None:
    another = make_project(environment="staging")
    it = story.ended("failed", story.now)
    client = Client()
    client.force_login(make_member(Role.ADMIN, "staging"))
    for name, pk in (("server_since", story.server.pk), ("project_since", story.project.pk)):
        assert client.get(reverse(name, args=[pk])).status_code == 404
    client.force_login(make_member(Role.VIEWER, "", story.project.pk))
    address = reverse("server_since", args=[story.server.pk])
    assert client.get(f"{address}?project={another.pk}").status_code == 404
    assert client.get(f"{address}?deployment={it.pk + 1000}").status_code == 404
    assert client.get(f"{address}?deployment={it.pk}").status_code == 200
    for query in (
        "deployment=x&until=yesterday&entry=-1",
        "until=0001-01-01T00:00:00%2B14:00",
        "until=9999-12-31T00:00Z",
    ):
        assert client.get(f"{address}?{query}").status_code == 200


def test_many_changes_are_told_page_by_page_and_none_is_lost(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "_ENTRIES", 5)
    for number in range(13):
        story.save(Variable(project=story.project, name=f"NAME_{number}", value="x"))
    client = Client()
    client.force_login(story.ada)
    line = line_of(story)
    assert "5 variables and more" in line.sentence
    told = [*line.events]
    while line.older is not None:
        line = line_of(story, page=Window(until=line.older.until, entry=line.older.entry))
        told += line.events
    assert named(told) == [f"NAME_{number}" for number in range(12, -1, -1)]
    assert len({event.entry for event in told}) == 13
    text = shown(client, "server_since", story.server.pk)
    older = text.partition('href="?until=')[2].partition('"')[0].replace("&amp;", "&")
    page = shown(client, "server_since", story.server.pk, f"?until={older}")
    assert "NAME_7" in page
    assert "NAME_8" not in page
    assert dict(parse_qsl(older))["entry"]


def test_a_hold_and_a_lock_of_the_environment_stand_before_the_project_too(story: Story) -> None:
    put_on_hold("all of it", story.ada)
    close_lock(Lock(environment="production", reason="this one"), story.ada)
    close_lock(Lock(environment="staging", reason="not this one"), story.ada)
    assert len(of_kind(line_of_project(story), Kind.GATE)) == 2


def test_a_set_of_variables_changes_the_projects_that_have_it(story: Story) -> None:
    mine, other = (VariableSet.objects.create(name=name, environment="production") for name in ("mine", "other"))
    AttachedSet.objects.create(project=story.project, variable_set=mine)
    for one in (mine, other):
        story.save(SetVariable(variable_set=one, name=f"OF_{one.name}", value="x"))
    (told,) = line_of_project(story).events
    assert (told.inside, "OF_mine" in told.what) == (mine.pk, True)
    for one in (mine, other):
        delete(one.variables.get())
    gone = line_of_project(story).events[0]
    assert (gone.inside, gone.what) == (mine.pk, "variable of a set OF_mine: deleted")


def test_a_group_tells_only_of_this_server(story: Story) -> None:
    with saving(story.group):
        story.group.servers.add(make_server(name="web-3"))
    assert not line_of(story).events
    with saving(story.group):
        story.group.servers.remove(story.server)
    (told,) = line_of(story).events
    assert told.kind == Kind.SERVER
    assert "web-1" in told.changes[0].before


@pytest.mark.parametrize("name", ["server_since", "project_since"])
def test_many_changes_cost_no_more_questions_than_few(story: Story, name: str) -> None:
    client = Client()
    client.force_login(make_member(Role.MAINTAINER, "production"))
    pk = story.server.pk if name == "server_since" else story.project.pk

    def questions() -> int:
        with CaptureQueriesContext(connection) as queries:
            shown(client, name, pk)
        return len(queries)

    story.everything()
    questions()
    few = questions()
    for _round in range(6):
        story.everything()
        story.ended("failed", story.now, make_project())
    assert questions() == few


def test_every_failure_leads_there(story: Story) -> None:
    failed = story.ended("failed", story.now)
    failed.targets.update(error="no")
    Deployment.objects.filter(pk=failed.pk).update(error_message="no")
    client = Client()
    client.force_login(story.ada)
    text = client.get(failed.get_absolute_url()).content.decode()
    assert f"{reverse('server_since', args=[story.server.pk])}?deployment={failed.pk}" in text
    assert f"{reverse('project_since', args=[story.project.pk])}?deployment={failed.pk}" in text
    assert reverse("server_since", args=[story.server.pk]) in shown(client, "server", story.server.pk)
    assert reverse("project_since", args=[story.project.pk]) in shown(client, "project", story.project.pk)
    good = client.get(story.good.get_absolute_url()).content.decode()
    assert "/since/" not in good


def test_every_link_of_the_line_leads_somewhere(story: Story) -> None:
    story.everything()
    client = Client()
    client.force_login(story.ada)
    for name, pk in (("server_since", story.server.pk), ("project_since", story.project.pk)):
        text = client.get(reverse(name, args=[pk])).content.decode()
        links = {part.partition('"')[0].partition("#")[0] for part in text.split('href="/')[1:]}
        for link in links:
            if not link.startswith("static"):
                assert client.get(f"/{link.replace('&amp;', '&')}").status_code in (200, 302), link


def test_the_api_tells_the_same(story: Story) -> None:
    story.everything()
    token = ApiToken(name="ci", user=make_member(Role.VIEWER, "", story.project.pk))
    bearer = {"Authorization": f"Bearer {token.renew()}"}
    token.save()
    client = Client(headers=bearer)
    for path, line in (("servers", line_of(story, token.user)), ("projects", line_of_project(story, token.user))):
        pk = story.server.pk if path == "servers" else story.project.pk
        told = client.get(f"/api/v1/{path}/{pk}/since").json()
        assert (told["sentence"], told["hidden"]) == (line.sentence, line.hidden)
        assert [event["what"] for event in told["events"]] == [event.what for event in line.events]
        assert told["since"]["deployment_id"] == story.good.pk
        assert SECRET not in str(told)
        until = quote(told["events"][-1]["at"])
        older = client.get(f"/api/v1/{path}/{pk}/since?until={until}").json()
        assert older["events"] == []
        asked = client.get(f"/api/v1/{path}/{pk}/since?deployment_id={story.good.pk + 1000}")
        assert (asked.status_code, asked.json()["field"]) == (404, "deployment_id")
    elsewhere = make_deployment(make_project(environment="staging"), make_group(make_server(), environment="staging"))
    client = Client(headers=bearer)
    ApiToken.objects.update(user=story.ada)
    for path, pk in (("servers", story.server.pk), ("projects", story.project.pk)):
        assert client.get(f"/api/v1/{path}/{pk}/since?deployment_id={elsewhere.pk}").status_code == 404
