"""Logs followed on real keepers: a service is restarted with a fault while somebody looks, and says so in its log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deployer.following.asked import begin
from deployer.following.work import Follower
from deployer.models import FollowedLine, LogFollow
from servers.models import Server
from servers.ssh.shell import connect
from tests.factories import make_user
from tests.parts.programs import wait_until
from tests.proofs.cells import Outcome
from tests.proofs.machines import Booted
from tests.proofs.parts import CannotRunError, MissingError
from tests.proofs.world import World

#: What the shop says when it is broken.
FAULT = "this version is broken"
#: What follows a log on a server.
FOLLOWING = ("journalctl", "supervisorctl", "pm2 logs", "podman logs", " logs ", "tail -n", "beat")


@dataclass(frozen=True)
class LogCell:
    """A log of ``kind`` and ``name`` of a service that is known to the table, and what is to be seen of it."""

    service: str
    event: str
    kind: str
    name: str
    happens: Callable[["LogCell", World, Outcome], None]
    #: A row of the table of services has a health check; this has none.
    check = ""

    @property
    def row(self) -> str:
        """What it is called in the table of services."""
        return f"log of {self.service}"

    def __str__(self) -> str:
        return f"{self.row} · {self.event} · {self.kind} {self.name}"


def logs() -> Iterator[LogCell]:
    """All of them."""
    supervisor = "-c {folder}/supervisor.conf shop"
    for service, kind, name in (
        ("systemd", "systemd", "shop"),
        ("systemd --user", "systemd", "shop"),
        ("supervisor", "supervisor", supervisor),
        ("pm2", "pm2", "shop"),
        ("podman", "docker", "shop"),
    ):
        yield LogCell(service, "restarted with a fault", kind, name, _restarted)
        missing = name.replace("shop", "nothere")
        yield LogCell(service, "there is no such service", kind, missing, _nothing)
    yield LogCell("systemd", "a unit that has printed nothing", "systemd", "quiet", _silent)
    yield LogCell("systemd", "the login may not read the journal", "systemd", "shop", _refused)
    yield LogCell("systemd", "no journal is kept", "systemd", "shop", _unkept)


def run_log(cell: LogCell) -> Outcome:
    """Let it happen, and write down where it was not as it should be."""
    outcome = Outcome(cell)
    begun = time.monotonic()
    try:
        world = World(cell.service)
        try:
            try:
                world.begin("start")
            except AssertionError as error:
                if cell.service == "podman":
                    raise CannotRunError(f"podman cannot run a container here: {error}") from error
                raise
            name = cell.name.format(folder=world.place.folder)
            world.make_project(service_kind=cell.kind, service_name=name)
            world.project.server_groups.add(world.group)
            cell.happens(cell, world, outcome)
        finally:
            world.close()
    except MissingError as error:
        outcome.not_run, outcome.can_run = str(error), not isinstance(error, CannotRunError)
    except (AssertionError, RuntimeError) as error:
        outcome.problems.append(str(error))
    outcome.seconds = time.monotonic() - begun
    return outcome


# --- what happens ------------------------------------------------------------------------------------


def _restarted(_cell: LogCell, world: World, outcome: Outcome) -> None:
    """Two lives of a service are seen by who began to look in the first; nothing is left when they go."""
    before = _following(world)
    with _followed(world, world.server) as row:
        wait_until(lambda: _following(world) > before, "the log to be followed")
        time.sleep(1)  # it is followed on, not only read once
        world.write_version("broken")
        world.do("restart")
        wait_until(lambda: FAULT in _text(row), f"the fault to be shown: {_text(row)[-500:]}")
        world.write_version("v3")
        world.do("restart")
        wait_until(lambda: "v3" in world.answer(), "the service to answer again")
        world.write_version("broken")
        world.do("restart")
        wait_until(lambda: _text(row).count(FAULT) > 1, "the next fault to be shown")
    outcome.said = "shown"
    wait_until(lambda: _following(world) <= before, f"nothing to be left: {_following(world)}")


def _nothing(cell: LogCell, world: World, outcome: Outcome) -> None:
    end = _end_of(world, world.server)
    outcome.said, outcome.sentence = "refused", end
    if not end.startswith("There is no") or "Correct its" not in end:
        outcome.problems.append(f"it is not said that there is none: {end}")
    if _following(world):
        outcome.problems.append(f"left: {_following(world)}")


def _silent(_cell: LogCell, world: World, outcome: Outcome) -> None:
    _do(world.server, "printf '[Service]\\nExecStart=/bin/echo hello\\n' >/etc/systemd/system/quiet.service")
    _do(world.server, "systemctl daemon-reload")
    with _followed(world, world.server) as row:
        wait_until(lambda: "-- No entries --" in _text(row), "journalctl's words")
        if not LogFollow.objects.filter(pk=row.pk, ended_at=None).exists():
            outcome.problems.append("it is not followed on")
        _do(world.server, "systemctl start quiet")
        wait_until(lambda: "hello" in _text(row), "its first words")
    outcome.said = "nothing yet"


def _refused(_cell: LogCell, world: World, outcome: Outcome) -> None:
    """A login of its own, which is then let in as the remedy says, word for word."""
    assert isinstance(world.machine, Booted)
    _do(world.server, "useradd -m -s /bin/bash deploy")
    server = world.machine.make_server("deploy")
    world.group.servers.add(server)
    end = _end_of(world, server)
    outcome.said, outcome.sentence = "refused", end
    remedy = "usermod -aG systemd-journal deploy"
    if remedy not in end or "adm" not in end:
        outcome.problems.append(f"the remedy is not said: {end}")
    _do(world.server, remedy)
    with _followed(world, server) as row:
        wait_until(lambda: "Started shop.service" in _text(row), "the remedy to help")


def _unkept(_cell: LogCell, world: World, outcome: Outcome) -> None:
    folder = "/etc/systemd/journald.conf.d"
    _do(world.server, f"mkdir -p {folder}; printf '[Journal]\\nStorage=none\\n' >{folder}/none.conf")
    _do(world.server, "systemctl restart systemd-journald; rm -rf /run/log/journal /var/log/journal")
    end = _end_of(world, world.server)
    outcome.said, outcome.sentence = "refused", end
    if "Storage=" not in end:
        outcome.problems.append(f"it is not said that there is no journal: {end}")


# --- by what -----------------------------------------------------------------------------------------


def _do(server: Server, text: str) -> None:
    with connect(server) as link:
        done = link.capture(text, timeout=60)
    if done.code:
        raise AssertionError(f"“{text}” ended with status {done.code}: {done.stderr}")


def _begin(world: World, server: Server) -> tuple[LogFollow, Follower]:
    kind, name = world.project.service_kind, world.project.service_name
    row = begin(world.project, server, kind, name, make_user())
    LogFollow.objects.filter(pk=row.pk).update(claim="proofs")
    row = LogFollow.objects.select_related("project", "server__credential", "server__jump_host").get(pk=row.pk)
    return row, Follower(row)


@contextmanager
def _followed(world: World, server: Server) -> Iterator[LogFollow]:
    row, follower = _begin(world, server)
    try:
        yield row
    finally:
        follower.stop.set()
        follower.join()


def _end_of(world: World, server: Server) -> str:
    """Why it ended, which it does without anybody's doing."""
    row, follower = _begin(world, server)
    try:
        wait_until(lambda: not follower.is_alive, "it to end")
    finally:
        follower.stop.set()
        follower.join()
    return LogFollow.objects.get(pk=row.pk).end


def _text(row: LogFollow) -> str:
    return "\n".join(FollowedLine.objects.filter(follow=row).order_by("id").values_list("content", flat=True))


def _following(world: World) -> list[str]:
    """The processes on the server that follow a log, as ps shows them."""
    commands = sorted(process.command for process in world.machine.processes().values())
    return [command for command in commands if any(word in command for word in FOLLOWING)]
