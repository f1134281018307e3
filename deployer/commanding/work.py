"""A worker's side: a command is carried out on its servers, and what a lost worker left is followed to its end."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from django.db import Error as DatabaseError
from django.db import connections
from django.utils.translation import gettext as _

from deployer.commanding.asked import right_lost
from deployer.database import complain, insist
from deployer.gates.environments import before_commands
from deployer.log.masking import Masker
from deployer.log.writing import Log, LogSink
from deployer.models import CommandRun, CommandTarget, Deployment, Target
from deployer.plan import secrets_of
from deployer.probing.place import real_place
from deployer.side_by_side import side_by_side
from people.record import Act, Actor, record
from projects.commands import look, service
from projects.models import Project
from servers.errors import (
    OUTCOME_UNKNOWN,
    NotReadyError,
    ScriptTimeoutError,
    ShellError,
    StoppedError,
    UnreachableError,
    explained,
)
from servers.models import Server
from servers.sentences import as_stored, clauses, sentences, storable
from servers.shell import Script
from servers.ssh.shell import SSHShell, connect
from servers.supervised.run import SupervisedRun

logger = logging.getLogger(__name__)

Status = CommandTarget.Status
LOOK_FOR_WISHES_EVERY = 0.5
BEAT_EVERY = 3.0
#: The place that is asked about: the home of the login, where a command runs.
_HOME = "~/."


class Carried:
    """A claimed run of a command while a worker carries it out; a context manager that always ends it."""

    def __init__(self, run: CommandRun) -> None:
        self.run = run
        self.log = Log(run, Masker([*run.secret_values(), *_secrets_there(run)]))
        self.stop = threading.Event()
        targets = [*run.targets.select_related("server__credential", "server__jump_host")]
        for target in targets:
            target.run = run  # one object: moves are made under this worker's claim
        self.servers = [OnServer(self, target) for target in targets]
        self._lost = run.error_message if run.status == CommandRun.Status.INTERRUPTED else ""
        self._places: dict[str, OnServer] = {}
        self._done, self._ended = threading.Event(), threading.Event()
        self._writer = threading.Thread(
            target=self.log.write_until,
            args=[self._done, f"command {run.pk}"],
            name=f"writer of command {run.pk}",
            daemon=True,
        )
        self._pulse = threading.Thread(target=self._beat, name=f"pulse of command {run.pk}", daemon=True)

    def __enter__(self) -> Self:
        words = {"number": self.run.pk, "name": self.run.name, "servers": ", ".join(map(str, self.servers))}
        self.log.say(_("Command #%(number)d, %(name)s: %(servers)s") % words)
        insist(self.log.flush)
        self._pulse.start()
        self._writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run with one final status, whatever happened; unexpected errors are raised again."""
        for server in self.servers:
            server.close()
        why = "" if error is None else _("deployer itself failed: %s") % f"{type(error).__name__}: {error}"
        self._end(self.log.mask(why))

    def first_at(self, place: str, server: "OnServer") -> "OnServer":
        """The server of this run that came first to a machine and a home: ``server`` itself if none did."""
        return self._places.setdefault(place, server) if place else server

    def _end(self, why: str) -> None:
        for server in self.servers:
            if server.target.status == Status.RUNNING:
                server.end(Status.UNKNOWN, _("Not followed to its end: %s") % (why or _("it was cancelled")))
            elif not server.target.has_ended and self.stop.is_set():
                server.end(Status.CANCELLED, _("Cancelled before it started."))
            elif not server.target.has_ended:
                server.end(Status.SKIPPED, _("Not started: %s") % (why or _("the run ended before that")))
        status, message = self._outcome(why)
        say = self.log.say if status == CommandRun.Status.SUCCESS else self.log.error
        say(message or _("Done: %s") % ", ".join(map(str, self.servers)))
        self._done.set()
        self.log.due.set()
        self._writer.join()
        try:
            insist(self.log.flush)
            if insist(lambda: self.run.end(status, message)):
                insist(lambda: record_result(self.run))
        finally:
            self._ended.set()
            self._pulse.join()

    def _outcome(self, why: str) -> tuple[CommandRun.Status, str]:
        ends: dict[str, list[str]] = {}
        for server in self.servers:
            if not server.is_elsewhere and not server.was_left_out:
                ends.setdefault(server.target.status, []).append(str(server))
        if ends.keys() <= {Status.DONE} and not why:
            return CommandRun.Status.SUCCESS, ""
        told = [f"{Status(name).label}: {', '.join(names)}" for name, names in ends.items()]
        cancelled = self.stop.is_set() and Status.CANCELLED in ends
        message = sentences(self._lost, _("Cancelled.") if cancelled else "", why, clauses(*told))
        if self._lost and Status.UNKNOWN in ends:
            return CommandRun.Status.INTERRUPTED, message
        return CommandRun.Status.CANCELLED if cancelled else CommandRun.Status.FAILED, message

    # --- the pulse --------------------------------------------------------------------

    def _beat(self) -> None:
        """Show signs of life and see whether somebody cancelled, until the end is written."""
        next_beat = time.monotonic() + BEAT_EVERY
        try:
            while not self._ended.wait(LOOK_FOR_WISHES_EVERY):
                try:
                    if time.monotonic() >= next_beat:
                        if not self.run.beat() and not self._ended.is_set():
                            self._let_go()
                        next_beat = time.monotonic() + BEAT_EVERY
                    asked = CommandRun.objects.filter(pk=self.run.pk).exclude(cancel_requested_at=None).exists()
                    if asked and not self.stop.is_set():
                        self.log.warn(_("Cancel requested: what runs on servers is ended, the rest is not started."))
                        self.stop.set()
                except DatabaseError as error:
                    complain(f"command {self.run.pk}", error)
        finally:
            connections.close_all()

    def _let_go(self) -> None:
        """Stop at once: another worker has this run now, and what runs on servers is left alone."""
        for server in self.servers:
            server.abandon()
        self.stop.set()
        self.log.let_go()


class OnServer:
    """One server of a run of a command."""

    def __init__(self, carried: Carried, target: CommandTarget) -> None:
        self.carried = carried
        self.target = target
        self.shell: SSHShell | None = None
        self.is_elsewhere = False
        self.was_left_out = target.status == Status.SKIPPED

    def __str__(self) -> str:
        return self.target.server_name

    @property
    def has_failed(self) -> bool:
        """Whether it ended otherwise than well."""
        ended_well = self.target.status == Status.DONE or self.is_elsewhere or self.was_left_out
        return self.target.has_ended and not ended_well

    def end(self, status: Status, error: str = "", **values: Any) -> None:
        """Write how it ended; the first end stays."""
        log = self.carried.log
        error = storable(log.mask(error))
        if insist(lambda: self.target.move(status, error=error, progress="", **values)):
            words = {"server": self, "label": status.label, "why": error}
            if status == Status.DONE:
                log.say(_("✔ %(server)s: %(label)s") % words, self.target)
            elif self.is_elsewhere:
                log.say(_("%(server)s: %(label)s. %(why)s") % words, self.target)
            else:
                log.error(_("✘ %(server)s: %(label)s. %(why)s") % words, self.target)

    def attempt(self, step: "Callable[[OnServer], None]") -> None:
        """Do ``step``, unless it has ended; an error becomes the end of this server alone."""
        if self.target.has_ended:
            return
        try:
            with explained(self):
                step(self)
        except StoppedError as error:
            self.end(Status.CANCELLED, str(error))
        except ShellError as error:
            was_begun = self.target.status == Status.RUNNING
            is_unknown = was_begun and isinstance(error, OUTCOME_UNKNOWN)
            self.end(Status.UNKNOWN if is_unknown else Status.FAILED, str(error))

    def carry_out(self) -> None:
        """Log in, make sure that it can be run here, run it once, and take down how it ended."""
        self._check()
        self._refuse_beside_deployment()
        link = self._connect()
        facts = look.read(link.capture(look.question("", _HOME, self.carried.run.run_as, writes=False)).stdout, _HOME)
        server, learned = link.server, facts.learned()
        insist(lambda: server.record_connection(facts=learned))
        first = self.carried.first_at(real_place(server, facts), self)
        if first is not self:
            self.is_elsewhere = True
            self.end(Status.SKIPPED, _("The same machine and login as %s: it is run there, once.") % first)
            return
        self._insist_on_ready(facts)
        self._check()
        self._refuse_beside_deployment()
        if not insist(lambda: self.target.move(Status.RUNNING)):
            raise StoppedError(_("This worker no longer holds the run"))
        self._follow(self.carried.log.output(self.target))

    def settle(self) -> None:
        """After a worker was lost: what had begun is followed to its end; what had not is never begun."""
        if self.target.status != Status.RUNNING:
            self.end(Status.SKIPPED, _("Not started: the worker was lost before that."))
            return
        link = self._connect()
        if SupervisedRun(link, self.target.run_key).close_gate():
            self.end(Status.SKIPPED, _("Not started: the worker was lost before that."))
            return
        self.carried.log.say(_("The command was begun by the worker that was lost; following it"), self.target)
        self._follow(self.carried.log.rest_of_output(self.target))

    def _check(self) -> None:
        if self.carried.stop.is_set():
            raise StoppedError(_("Cancelled before it started."))

    def _connect(self) -> SSHShell:
        server = self.target.server
        if server is None:
            raise UnreachableError(_("%s was deleted after the launch") % self)
        try:
            self.shell = connect(server, on_notice=lambda told: self.carried.log.warn(told, self.target))
        except ShellError as error:
            message = str(error)
            insist(lambda: server.record_connection(message))
            raise
        return self.shell

    def _insist_on_ready(self, facts: look.Facts) -> None:
        run_as = self.carried.run.run_as
        if run_as and not facts.may_run_as:
            raise NotReadyError(
                _("Not started"),
                _("this login cannot become %s by sudo without a password") % run_as,
                _("Allow it in sudoers (LOGIN ALL=(%s) NOPASSWD: ALL), or run it as the login itself.") % run_as,
            )
        if "bash" not in facts.tools:
            raise NotReadyError(_("Not started"), _("there is no bash"), _("Install it."))

    def _refuse_beside_deployment(self) -> None:
        """Where that was asked for: not while a deployment works on this machine, whatever it is called there."""
        if not self.carried.run.not_while_deploying or self.target.server is None:
            return
        busy = insist(lambda: _deployment_on(self.target.server))
        if busy is not None:
            raise NotReadyError(_("Not started"), _("deployment %s works on the server") % busy)

    def _follow(self, output: LogSink) -> None:
        """Run it unless that was begun before, follow it to its end over as many links as it takes."""
        assert self.shell is not None  # noqa: S101 (both callers have connected)
        run, carried = self.carried.run, self.carried
        supervised = SupervisedRun(self.shell, self.target.run_key)
        try:
            code, _answer = supervised.carry_out(
                script_of(run),
                "",
                output,
                timeout=run.timeout,
                stop=carried.stop,
                room=carried.log.room,
                taken=output.taken,
            )
        except StoppedError as error:
            if self.shell.abandoned:
                raise
            raise StoppedError(_("Cancelled: it was ended, with every process that it had started.")) from error
        except ScriptTimeoutError as error:
            told = _("It ran longer than its limit of %d seconds and was ended") % run.timeout
            raise ScriptTimeoutError(told) from error
        finally:
            output.finish()
        insist(carried.log.flush)  # a worker that takes over from here on does not ask for the output again
        if code:
            self.end(Status.FAILED, _("It ended with status %d.") % code, exit_code=code)
        else:
            self.end(Status.DONE, exit_code=code)
        supervised.forget()

    def abandon(self) -> None:
        """Let go of the server at once: another worker has it now."""
        if self.shell is not None:
            self.shell.abandon()

    def close(self) -> None:
        """Close the link."""
        if self.shell is not None:
            self.shell.close()


def script_of(run: CommandRun) -> Script:
    """What is run: bash with the text, in the home of the login; values go by the environment, never into the text."""
    values = {**run.given, "DEPLOY_COMMAND": str(run.pk)}
    return service.restart_by_text(run.script, values, "", run.run_as)


def _secrets_there(run: CommandRun) -> list[str]:
    """The secrets of the projects that were deployed to the servers: a command may print them."""
    servers = run.targets.exclude(server=None).values("server")
    projects = Project.objects.filter(standings__server__in=servers).distinct()
    return [*dict.fromkeys(secret for project in projects for secret in secrets_of(project))]


def _deployment_on(server: Server | None) -> Deployment | None:
    """A deployment that works on the machine of ``server``."""
    if server is None:
        return None
    names = Server.objects.filter(pk=server.pk)
    if machine := server.facts.get("machine_id"):
        names |= Server.objects.filter(facts__machine_id=machine)
    open_ones = Target.objects.filter(server__in=names, deployment__in=Deployment.objects.at_work())
    found = open_ones.exclude(status__in=Target.ENDED).select_related("deployment__project").first()
    return found.deployment if found is not None else None


def record_result(run: CommandRun) -> None:
    """Record how a run ended, on each of its servers."""
    ends = {
        target.server_name: f"{target.status} ({target.exit_code})" if target.exit_code is not None else target.status
        for target in run.targets.all()
    }
    who = Actor.of_job(f"command #{run.pk}", run.created_by)
    record(who, Act.CHANGED, run, None, {"status": run.status, "servers": ends})


def carry_out(run_id: int, claim: str = "") -> bool:
    """Claim a run and carry it out. False: it is not there to be claimed, so nothing was done."""
    run = _open(run_id)
    if run is None:
        return False
    if why := refusal_at_turn(run):
        if run.give_up(why):
            record_result(run)
        return False
    if not run.claim_for_worker(claim):
        return False
    with Carried(run) as carried:
        if run.one_by_one:
            _one_by_one(carried)
        else:
            _all_at_once(carried.servers, OnServer.carry_out)
    return True


def settle_lost(run_id: int, claim: str = "") -> bool:
    """Claim an interrupted run and follow what was begun; nothing is started. False: as above."""
    run = _open(run_id)
    if run is None or not run.claim_to_settle(claim):
        return False
    with Carried(run) as carried:
        _all_at_once(carried.servers, OnServer.settle)
    return True


def _open(run_id: int) -> CommandRun | None:
    return CommandRun.objects.active().select_related("command", "created_by").filter(pk=run_id).first()


def refusal_at_turn(run: CommandRun) -> str:
    """Why a run that no worker has taken yet is not begun, as a sentence; empty if it may be."""
    servers = [*Server.objects.filter(pk__in=run.targets.values("server")).prefetch_related("groups")]
    with as_stored():
        closed = before_commands(run.environment_list, run.created_by, run.trigger, run.launched_for)
        return right_lost(run, servers) or sentences(*closed.shut)


def _one_by_one(carried: Carried) -> None:
    """One server after the other; the first that fails is the last one that it was begun on."""
    for server in carried.servers:
        server.attempt(OnServer.carry_out)
        if server.has_failed and not carried.stop.is_set():
            for other in carried.servers:
                if not other.target.has_ended:
                    other.end(Status.SKIPPED, _("Not started: it had failed on %s before.") % server)
            return


def _all_at_once(servers: Iterable[OnServer], step: "Callable[[OnServer], None]") -> None:
    side_by_side([server for server in servers if not server.target.has_ended], lambda server: server.attempt(step))
