"""One server of a deployment in flight: connect, preflight, stage, put config files, switch, restart, verify."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.commands import Commands
from deployer.engine.config_files import ConfigFiles
from deployer.engine.outside import fetch_values
from deployer.engine.staging import Staging
from deployer.engine.verification import Verification
from deployer.engine.voice import Voice
from deployer.engine.work import Work
from deployer.log.writing import LogSink
from deployer.models import ConfigState, Deployment, Lease, TakenError, Target
from deployer.plan import Location, Plan
from deployer.probing.config_files import files_looked_at, files_put, places
from deployer.probing.identity import Inquiry, Seen
from deployer.probing.look import Level, findings, look, windows_lines
from deployer.probing.place import real_place
from projects.commands import release as release_commands
from projects.commands import service
from projects.commands.look import Facts
from projects.commands.matching import Found
from projects.commands.proof import Proof
from projects.commands.services.kind import Does
from projects.steps import Moment
from servers.errors import (
    OUTCOME_UNKNOWN,
    NotReadyError,
    ScriptTimeoutError,
    ShellError,
    StoppedError,
    UnreachableError,
    explained,
)
from servers.sentences import because, clauses, listed, sentences, storable
from servers.shell import Script
from servers.ssh.shell import SSHShell, connect
from servers.supervised.run import SupervisedRun
from servers.supervised.script import forget, only_before

Status = Target.Status
#: Seconds for which an answer about who the service is counts as the state right before its restart.
FRESH = 2.0
#: While a server is in one of these, its script may be running.
AT_WORK = Target.AT_ITS_SCRIPT | {Status.SWITCHING, Status.CHECKING}


class _SamePlaceError(ShellError):
    """Another server of this deployment, which another worker may have, is the same machine and folder."""

    def __init__(self, first: int) -> None:
        super().__init__(str(first))
        self.first = first


class ServerRun:
    """The tasks on one server. Each raises a `ShellError`; `attempt` turns it into the target's end."""

    def __init__(self, work: Work, target: Target) -> None:
        self.work = work
        self.plan = work.plan
        self.target = target
        self.voice = Voice(work.log, target)
        self.inquiry = Inquiry.of(self.plan, work.mask, work.deployment.deployment_type)
        self.shell: SSHShell | None = None
        self.facts: Facts | None = None
        self.seen: Seen | None = None
        self.switched = False
        #: Whether the folder of the release was made by this deployment: what steps had put there is not in it.
        self.is_brought_anew = False
        #: Whether its steps after were dealt with.
        self.is_closed = False
        #: Whether it has to be reached again, and given what is deployed, before its turn; and whether all of its turn
        #: but the steps after is done.
        self.is_to_join = False
        self.is_proved = False
        #: The plan whose values were live before, once it was put back to them.
        self.former: Plan | None = None
        self.restarted = False
        #: Runs of steps before that have ended: the server is told to forget them behind another question.
        self.ended_runs: list[str] = []
        #: Whether an earlier try has begun its script, or has left it changed.
        self.has_run_before = False
        self.was_left_changed = False
        self.before: Sequence[Found] = ()
        #: Whether some of its config files may have been replaced.
        self.has_other_files = False
        self.has_files = bool(files_put(self.plan, target.server_id, work.deployment.deployment_type))
        #: The config files that a look sees.
        self.looked_at = files_looked_at(self.plan, target.server_id, work.deployment.deployment_type)
        #: The server of this deployment that is the same machine and folder, and those that are so under other names.
        self.first: ServerRun | None = None
        self.others: list[ServerRun] = []

    def __str__(self) -> str:
        return self.target.server_name

    @property
    def host(self) -> str:
        """The host of the server as it was at the launch."""
        return self.target.host.rpartition(":")[0].strip("[]")

    def resume(self) -> None:
        """Go on where another worker has left it: with no link, and what was written down."""
        target = self.target
        is_switched = bool(target.release_after) and self.has_begun
        self.switched = is_switched and not self.work.deployment.keeps_release
        was_changed = partial(ConfigState.was_changed_by, self.work.deployment.pk, target.server_id)
        self.has_other_files = self.has_files and insist(was_changed)
        self.is_to_join = not target.has_ended

    def start_over(self) -> None:
        """Forget what was found out over the link, for its turn to come again."""
        self._forget()
        self.restarted = False
        self.was_left_changed = self.is_changed
        self.is_to_join = True

    def come_back(self) -> None:
        """Go on where a helper has left it, whose row was read again."""
        self._forget()
        self.resume()

    def _forget(self) -> None:
        self.close()
        self.shell, self.facts, self.seen, self.before = None, None, None, ()
        for name in ("location", "commands", "verification", "files"):
            self.__dict__.pop(name, None)

    @property
    def has_begun(self) -> bool:
        """Whether its switch or its restart had begun; asked of the database once it has moved."""
        return insist(lambda: self.target.begun_at) is not None

    @property
    def can_go_back(self) -> bool:
        """Whether it was changed, and has a release or, where that was kept, config files to go back to."""
        was_changed = self.is_changed and self.first is None and self.target.status != Status.ROLLED_BACK
        return was_changed and (self.work.deployment.keeps_release or bool(self.target.release_before))

    # --- moving and ending -------------------------------------------------------------------------

    def move(self, status: Status, **values: Any) -> None:
        """Write the next status before its work begins. Raises `StoppedError` when it is not allowed."""
        if not insist(lambda: self.target.move(status, **values)):
            raise StoppedError(_("This worker no longer holds the deployment"))

    def end(self, status: Status, error: str = "", **values: Any) -> None:
        """Write how it ended; the first end stays."""
        error = storable(self.work.log.mask(error))
        if insist(lambda: self.target.move(status, error=error, **values)):
            label = Status(status).label
            if status == Status.SUCCESS:
                self.voice.say(_("✔ %(server)s: %(label)s") % {"server": self, "label": label})
            else:
                self.voice.error(_("✘ %(server)s: %(label)s. %(why)s") % {"server": self, "label": label, "why": error})
            self.tell_others()

    def stand_behind(self, first: "ServerRun") -> None:
        """Leave all work to ``first``, and end as it ends."""
        self.first = first
        first.others.append(self)

    def tell_others(self) -> None:
        """Let the other names of this machine and folder have the same end."""
        for other in [*self.others]:
            self.tell(other)
            mine, theirs = self.target.server_id, other.target.server_id
            if self.has_files and mine and theirs:
                insist(partial(ConfigState.share, self.work.deployment.project_id, mine, theirs))

    def tell(self, other: "ServerRun") -> None:
        """Let another name of this machine and folder have the same end."""
        done = self.target.status == Status.SUCCESS
        words = _("The same machine and folder as %s: done there.") if done else _("The same machine and folder as %s.")
        if insist(lambda: other.target.share(self.target, words % self)):
            label = Status(other.target.status).label
            other.voice.say(
                _("%(server)s: %(label)s. %(why)s") % {"server": other, "label": label, "why": words % self}
            )

    def fail(self, error: ShellError) -> None:
        """End as ``error`` demands: cancelled, failed, or unknown where a script may still be running."""
        if isinstance(error, StoppedError) and (self.has_run_before or self.was_left_changed):
            self.end(Status.FAILED, because(_("It had failed, and was not tried again to the end"), error))
        elif isinstance(error, StoppedError):
            self.end(Status.CANCELLED, str(error))
        elif isinstance(error, OUTCOME_UNKNOWN) and self.target.status in AT_WORK:
            self.end(Status.UNKNOWN, str(error))
        else:
            self.end(Status.FAILED, str(error))

    def attempt(self, *tasks: "Task", ended_too: bool = False) -> None:
        """Do ``tasks`` in turn until one of them ends the target; ``ended_too``: also when it has ended.

        None follows one that fails, also where that cannot be written: then another worker has the deployment.
        """
        for task in tasks:
            if self.first is not None or (self.target.has_ended and not ended_too):
                return
            try:
                with explained(self):
                    task(self)
            except _SamePlaceError as same:
                self._leave_to_another(same.first)
                return
            except ShellError as error:
                self.fail(error)
                return

    # --- the link, and what was found over it ------------------------------------------------------

    @property
    def link(self) -> SSHShell:
        assert self.shell is not None  # noqa: S101 (`connect` is the first step of both routines)
        return self.shell

    @property
    def found(self) -> Facts:
        assert self.facts is not None  # noqa: S101 (`connect` is the first step of both routines)
        return self.facts

    @cached_property
    def location(self) -> Location:
        """Where the project lies on this server."""
        return self.plan.on(self.found.home, self.work.deployment.deployment_type)

    @cached_property
    def commands(self) -> Commands:
        """Short scripts of our own on this server."""
        return Commands(self.link, self.location.deploy_path, self.plan.script_timeout)

    @cached_property
    def verification(self) -> Verification:
        """The questions that are asked behind its script."""
        is_lost = self.found.is_lost and not self.switched
        return Verification(self.work, self.voice, self.link, self.location, self.inquiry, is_lost=is_lost)

    @cached_property
    def files(self) -> ConfigFiles:
        """Its config files."""
        return ConfigFiles(self.work, self.target, self.voice, self.link, self.location)

    @property
    def is_changed(self) -> bool:
        """Whether it has another release than before, or other config files."""
        return self.switched or self.has_other_files

    # --- tasks -------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Log in, and collect the facts for `preflight`, the login's home and the identity of the service."""
        server = insist(lambda: self.target.server)
        if server is None:
            raise UnreachableError(_("%s was deleted after the launch") % self)
        has_begun = self.has_begun or self.work.journal.on(self.target)
        if has_begun and server.host != self.host:
            words = {"server": self, "old": self.host, "new": server.host}
            raise UnreachableError(
                _("%(server)s was worked on at %(old)s, and is now at %(new)s") % words,
                "",
                _("Give it its former host again to go on there, or see to both machines by hand."),
            )
        try:
            self.shell = connect(server, on_notice=self.voice.warn)
            self.look()
        except ShellError as error:
            message = str(error)
            insist(lambda: server.record_connection(message))
            raise
        learned = self.found.learned()
        insist(lambda: server.record_connection(facts=learned))

    def reach(self) -> None:
        """See to it that there is a link. Raises a `ShellError` where the server cannot be reached."""
        if self.shell is None:
            self.connect()
        elif not self.link.is_alive:
            self.link.open()

    def arrive(self) -> None:
        """Connect, see that it can work, and leave it to another name of the same place where that came first; once."""
        if self.facts is None:
            self.connect()
            self.preflight()
            self.find_first()

    def look(self) -> Seen:
        """Ask the server for all facts needed before a restart, in one command."""
        asked = places(self.plan, self.looked_at)
        self.facts, answer = look(self.link, self.plan, self.work.deployment.deployment_type, self.inquiry, asked)
        self.seen = Seen(answer)
        return self.seen

    def preflight(self) -> None:
        """Make sure that the deployment can work: the place is free, and the look found no error."""
        self.take_lease()
        server = self.link.server
        assert self.seen is not None  # noqa: S101 (`connect` has looked)
        services = self.inquiry.read(self.seen.answer)
        found = findings(str(server), self.plan, self.work.deployment.deployment_type, self.found, services)
        if self.looked_at:
            live = release_commands.release_name(self.found.live)
            found += self.files.findings(self.looked_at, self.found.files, live)
        for finding in found:
            if finding.level == Level.WARNING:
                self.voice.warn(str(finding))
        errors = [str(finding) for finding in found if finding.level == Level.ERROR]
        if errors:
            raise NotReadyError(_("Not started"), " ".join(errors))

    def take_lease(self) -> None:
        server, place = self.link.server, self.location.place
        real, is_shared = real_place(server, self.found), self.work.is_shared
        try:
            take = partial(Lease.take, server, place, self.work.deployment, real, is_shared=is_shared)
            holder = insist(take)
        except TakenError as error:
            behind = self.work.deployment.targets.filter(server=error.server, same_as=self.target)
            if not insist(behind.exists):
                raise _SamePlaceError(error.server) from error
            holder = insist(partial(Lease.take, server, place, self.work.deployment, real))  # it works there, that not
        if holder:
            raise NotReadyError(
                _("Not started"),
                _("%(place)s on %(server)s is in use by deployment %(holder)s")
                % {"place": place, "server": server, "holder": holder},
                _("Wait for it to finish, or cancel it."),
            )

    def find_first(self) -> None:
        """Leave the work to the server of this deployment that is the same machine and folder, if there is one."""
        place = real_place(self.link.server, self.found)
        first = self.work.first_at(place, self) if place else self
        if first is not self:
            self._leave_to(first)

    def _leave_to_another(self, server: int) -> None:
        """Leave the work to a server that another worker may have: what becomes of it is told behind its turn."""
        deployment = self.work.deployment
        target = insist(lambda: deployment.targets.select_related("server").get(server=server))
        target.deployment = deployment
        try:
            self._leave_to(ServerRun(self.work, target))
        except ShellError as error:
            self.fail(error)

    def _leave_to(self, first: "ServerRun") -> None:
        self.move(Status.PENDING, same_as=first.target)
        self.voice.say(
            _("%(server)s is the same machine and folder as %(first)s: the work is done there, once")
            % {"server": self, "first": first}
        )
        mine, theirs = (self.plan.variables_for("deploy", each.target.server_id) for each in (self, first))
        if differing := sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)):
            told = _("Of the values of both names those of %(first)s count there: %(names)s")
            self.voice.warn(told % {"first": first, "names": ", ".join(differing)})
        deployment_type = self.work.deployment.deployment_type
        ours, others = (
            {(it.path, it.content, it.mode, it.owner) for it in files_put(self.plan, number, deployment_type)}
            for number in (self.target.server_id, first.target.server_id)
        )
        if paths := listed(sorted({path for path, *_rest in ours ^ others})):
            told = _("Of the config files of both names those of %(first)s are put there, and no others: %(paths)s")
            self.voice.warn(told % {"first": first, "paths": paths})
        self.stand_behind(first)
        if first.target.has_ended:
            first.tell(self)

    def stage(self) -> None:
        """Put the release beside the live one: whole, verified, not yet live."""
        self.move(Status.STAGING)
        staging = Staging(self.work, self.commands, self.voice)
        done = self.work.stagings.setdefault(self.target.server_id or 0, threading.Event())
        try:
            found = staging.look()
            self._hold(found.inode)
            self.target.release_before = self.target.release_after = found.live
            self.is_brought_anew = staging.bring(found)
        finally:
            done.set()
        self.move(Status.STAGED, release_before=self.target.release_before)

    def _hold(self, inode: str) -> None:
        """Take the lease of the folder itself, which may have been made only now."""
        if inode and (inode, "") != (self.found.inode, self.found.rest):
            self.facts = replace(self.found, inode=inode, rest="")
            self.take_lease()

    def put_files(self) -> None:
        """See to it that its config files are as they are to be: whole, checked, and what was there kept."""
        if not self.has_files:
            return
        is_fresh = self.work.deployment.keeps_release and self.seen is not None and self.seen.age <= FRESH
        states = self.found.files if is_fresh else None
        self.files.put(self.facts_for_files, self.release_of_files, states, begin=self._begin_to_put)

    def _begin_to_put(self) -> None:
        self.move(Status.SWITCHING)
        self.has_other_files = True

    def take_files_back(self) -> None:
        """Put back what was there where its script will not be started after all."""
        begun = self.restarted or self.has_run_before or self.switched or self.target.status == Status.UNKNOWN
        if not self.has_files or self.shell is None or begun or not self.has_other_files:
            return
        try:
            with explained(self):
                self.put_files_back(before=self.target.run_key)
        except ShellError as error:
            why = clauses(self.target.error, error)
            self.voice.error(str(error))
            insist(lambda: self.target.record_more(storable(self.work.log.mask(why))))

    def put_files_back(self, before: str = "") -> list[str]:
        """Put back the config files of before this deployment; gives their paths.

        Only as long as the run ``before`` has not begun, where one is named.
        """
        if not self.has_files:
            return []
        back = self.files.take_back(self.facts_for_files, self.release_of_files, before)
        if back is not None:
            self.has_other_files = False
        return back or []

    @property
    def release_of_files(self) -> str:
        """The release that its config files belong to: the one that is deployed, else the one that is live."""
        if self.work.deployment.keeps_release:
            return release_commands.release_name(self.found.live)
        return self.work.release.version

    @property
    def facts_for_files(self) -> dict[str, str]:
        """What a template may say of this deployment, whatever is live at the moment."""
        return {**self.values(), **self.facts_about(self.release_of_files)}

    def switch(self) -> None:
        """Make the staged release the live one, by one rename."""
        version, deploy_path = self.work.release.version, self.location.deploy_path
        if self.location.script:
            self.commands.need_script(service.in_release(self.location.script, deploy_path, version))
        self.work.check()
        self.move(Status.SWITCHING)
        self.commands.capture(
            only_before(self.target.run_key) + release_commands.switch(deploy_path, version), _("The switch failed")
        )
        self.switched = True
        self.target.release_after = version
        self.move(Status.SWITCHING, release_after=version)
        before = self.target.release_before
        switched = (
            _("Switched from %(before)s to %(after)s") if before else _("Switched to %(after)s, the first release")
        )
        self.voice.say(switched % {"before": before, "after": version})

    def restart(self) -> None:
        """Run the script once, whatever happens to the link, and take down the exit status.

        What is to be stopped or started and is so already needs none.
        """
        seen = self.seen
        if self.switched or seen is None or seen.age > FRESH:
            seen = self.look()
        if self.switched and self.location.script_is_in_release and self.found.windows_lines:
            self.voice.warn(str(windows_lines(self.location.script)))
        self.before = self.verification.inquiry.read(seen.answer)
        begins: dict[str, int] = {}
        if self.work.journal.on(self.target):  # what is written down of its output is that of a step
            insist(self.work.log.flush)
            begins = {"stdout_logged": 0, "stderr_logged": 0}
        if not self.switched:
            self.target.release_before = self.target.release_after = release_commands.release_name(self.found.live)
            self.work.check()  # after a switch the restart belongs to it: code and process must not part
        self.move(
            _STATUS[Deployment.Type(self.work.deployment.deployment_type)],
            release_before=self.target.release_before,
            release_after=self.target.release_after,
            proof=Proof.beginning([(found.processes, found.near) for found in self.before]).to_json(),
            **begins,
        )
        if self._is_left_to_itself():
            self.move(Status.CHECKING)
            return
        self.restarted = True
        self.voice.say(_("Running %s") % self.location.label)
        self.follow(self.work.log.output(self.target))
        if self.target.has_ended:  # else verifying does it, with its first question
            SupervisedRun(self.link, self.target.run_key).forget()

    def _is_left_to_itself(self) -> bool:
        """Whether nothing is to be run; else the kinds of services act only on those that need it, as they need it."""
        does = self.plan.does(self.work.deployment.deployment_type)
        if does == Does.RESTART:
            return False
        known = self.verification.known(self.before)
        judges = [
            it.judge(found, known) for it, found in zip(self.verification.inquiry.questions, self.before, strict=True)
        ]
        if does == Does.RELOAD:
            off = {number for number, judge in enumerate(judges) if judge.before.kept and judge.before.kept.is_off}
            wanted = {number: Does.START if number in off else does for number in range(len(judges))} if off else {}
        else:
            wanted = {number: does for number, judge in enumerate(judges) if not judge.is_done()}
            if not wanted:
                stopped, runs = _("Nothing has to be run: it is stopped."), _("Nothing has to be run: it runs.")
                self.voice.say(stopped if does == Does.STOP else runs)
                return True
        if wanted and not self.location.script and not self.location.is_kept:
            text, told = self.plan.own_text(self.location.deploy_path, wanted)
            self.location = replace(self.location, text=text, does=told)
        return False

    def follow(self, output: LogSink) -> None:
        """Run the script unless it was already started, follow it to its end and record how it ended."""
        try:
            environment = self.environment(self.target.release_after, self.work.journal.action)
            code = self.run_script(self.target.run_key, environment, output)
        except ScriptTimeoutError as error:
            raise ScriptTimeoutError(
                _("The script %(script)s ran longer than its limit of %(seconds)d seconds and was ended")
                % {"script": self.location.label, "seconds": self.plan.script_timeout},
                "",
                _("Raise script_timeout if it needs longer."),
            ) from error
        insist(self.work.log.flush)  # a worker that takes over from here on does not ask for the output again
        self.move(Status.CHECKING, exit_code=code)
        if code:
            self.end(Status.FAILED, exit_sentence(self.location.label, code))

    def run_script(self, key: str, environment: dict[str, str], output: LogSink) -> int:
        """Run the script as the run ``key``, and ask who the service is as soon as it has ended; gives its status."""
        try:
            code, answer = SupervisedRun(self.link, key).carry_out(
                self._script(environment),
                self.inquiry.text,
                output,
                timeout=self.plan.script_timeout,
                stop=self.work.force,
                room=self.work.log.room,
                taken=output.taken,
            )
        finally:
            output.finish()
        self.seen = Seen(answer)
        return code

    def _script(self, environment: dict[str, str]) -> Script:
        """What restarts the application: a script on the server, or a text that is kept here."""
        if self.location.script:
            return service.restart(self.location.script, environment, self.plan.run_as)
        deploy_path = self.location.deploy_path
        folder = f"{deploy_path}/current" if deploy_path and self.location.is_kept else ""
        return service.restart_by_text(self.location.text, environment, folder, self.plan.run_as)

    @property
    def live_version(self) -> str:
        """The version that is live here, as far as is known."""
        return self.target.release_after or release_commands.release_name(self.found.live)

    def environment(self, version: str, action: str, plan: Plan | None = None) -> dict[str, str]:
        """The environment of a script: the deploy variables of this server, the release, and what is being done.

        The variables are those of ``plan``, where it is another one than that of this deployment.
        """
        return {**self.values(plan), **self.facts_about(version), "DEPLOY_ACTION": action}

    def values(self, plan: Plan | None = None) -> dict[str, str]:
        """The variables that scripts and config files get here, with the values from outside."""
        with self.work.fetching:  # those that a lost worker had are had once more
            fetch_values(self.work, plan)
        return self.work.variables("deploy", self.target.server_id, plan)

    def facts_about(self, version: str) -> dict[str, str]:
        """What scripts and templates are told of the deployment, with this release."""
        deployment, live = self.work.deployment, self.work.live(version)
        return {
            "DEPLOY_ID": str(deployment.pk),
            "DEPLOY_TYPE": deployment.deployment_type,
            "DEPLOY_PATH": self.location.deploy_path,
            "DEPLOY_RELEASE": live.release,
            "DEPLOY_COMMIT": live.commit,
        }

    def verify(self) -> None:
        """Prove that the process was replaced, then ask every health check; or that it was stopped."""
        then = "".join(map(forget, [self.target.run_key, *self.ended_runs]))
        self.ended_runs.clear()
        status, proof = self.verification.prove(self.before, self.seen, then=then)
        if status != Status.SUCCESS:
            self.end(status, self.verification.told_of_bad(proof), proof=proof.to_json())
            return
        problem = ""
        if (
            self.plan.health_checks and not self.work.deployment.is_stop
        ):  # they may take a while; what was proved is shown in the meantime
            self.move(Status.CHECKING, proof=proof.to_json())
            problem = self.verification.ailment()
            status, proof = self.verification.confirm(self.before, proof)
        if not problem and status == Status.SUCCESS and self.work.journal.at(Moment.AFTER):
            self.move(Status.CHECKING, proof=proof.to_json())  # its turn ends with the steps after
        elif not problem and status == Status.SUCCESS:
            self.end(Status.SUCCESS, proof=proof.to_json())
        else:
            bad = self.verification.told_of_bad(proof) if status != Status.SUCCESS else ""
            why = sentences(problem, bad)
            self.end(Status.FAILED if problem else status, why, proof=proof.to_json())

    def keep_evidence(self) -> None:
        """Keep what the server shows about the reason of a failure, once its switch or its restart had begun."""
        failed = self.target.status in {Status.FAILED, Status.UNCHANGED}
        if failed and self.first is None and self.facts and self.has_begun:
            self.verification.gather_evidence()

    @property
    def is_abandoned(self) -> bool:
        """Whether another worker has the server."""
        return self.shell is not None and self.shell.abandoned

    def abandon(self) -> None:
        """Let go of the server at once: another worker has it now."""
        if self.shell is not None:
            self.shell.abandon()

    def close(self) -> None:
        """Close the link."""
        if self.shell is None:
            return
        if self.ended_runs and self.shell.is_alive:  # its turn has ended before it was asked again
            with suppress(ShellError):
                self.shell.capture("".join(map(forget, self.ended_runs)))
        self.shell.close()


def let_go(work: Work, servers: Sequence[ServerRun]) -> None:
    """Stop at once: another worker has these servers now, so nothing more is done here or on one of them."""
    for server in servers:  # first: what is stopped before is ended on its server
        server.abandon()
    work.stop.set()
    work.force_here.set()
    work.log.let_go()
    for server in servers:  # and those that have logged in since
        server.abandon()


#: The status during its script, by the type of the deployment.
_STATUS = {
    Deployment.Type.FULL: Status.RESTARTING,
    Deployment.Type.RESTART_ONLY: Status.RESTARTING,
    Deployment.Type.STOP: Status.STOPPING,
    Deployment.Type.START: Status.STARTING,
}
#: What is done on each server, in a routine's order: a method of `ServerRun`, or a function that takes one.
Task = Callable[[ServerRun], None]


def exit_sentence(script: str, code: int) -> str:
    """How a script ended that did not end well."""
    if 128 < code <= 192:  # there are 64 signals; 255 is a status like any other
        return _("%(script)s ended with status %(code)d (killed by signal %(signal)d, or returned by the script).") % {
            "script": script,
            "code": code,
            "signal": code - 128,
        }
    return _("%(script)s ended with status %(code)d.") % {"script": script, "code": code}
