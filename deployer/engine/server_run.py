"""One server of a deployment in flight: connect, stage, switch, restart, verify."""

import secrets
from collections.abc import Container
from shlex import quote
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.staging import Staging
from deployer.log.writing import Output as LogOutput
from deployer.log.writing import clean_lines
from deployer.models import Lease, Release, Sighting, Target
from deployer.probing.identity import Question, Seen, run_check, watch
from deployer.probing.look import Finding, findings, look
from deployer.releases.versions import Recorded, recorded
from projects.commands import health, service
from projects.commands import release as release_commands
from projects.commands.look import Facts
from servers.shell import (
    LinkLostError,
    NotReadyError,
    RunLostError,
    ScriptTimeoutError,
    ShellError,
    StoppedError,
    TransferError,
    UnreachableError,
)
from servers.ssh.shell import Output, SSHShell, connect
from servers.supervised.script import only_before, remove

if TYPE_CHECKING:
    from deployer.engine.run import Run

Status = Target.Status
#: Seconds for which an answer about who the service is counts as the state right before its restart.
FRESH = 2.0


class ServerRun:
    """What happens on one server. Every step raises a `ShellError`; `attempt` turns it into the target's end."""

    def __init__(self, run: "Run", target: Target) -> None:
        self.run = run
        self.plan = run.plan
        self.target = target
        self.question = Question.of(self.plan)
        self.shell: SSHShell | None = None
        self.facts: Facts | None = None
        self.seen: Seen | None = None
        self.switched = False
        self.before: list[dict[str, Any]] = []

    def __str__(self) -> str:
        return self.target.server_name

    @property
    def ended(self) -> bool:
        return self.target.status in Target.ENDED

    @property
    def failed(self) -> bool:
        """Whether it counts against the failure budget."""
        return self.target.status in Target.FAILURES | {Status.ROLLED_BACK}

    # --- saying and ending -------------------------------------------------------------------------

    def say(self, sentence: str) -> None:
        self.run.log.say(sentence, self.target)

    def report(self, progress: str) -> None:
        """Show how far the upload is, in the log and beside the server."""
        self.say(_("Uploading: %s") % progress)
        insist(lambda: Target.objects.filter(pk=self.target.pk).update(progress=progress))

    def warn(self, sentence: str) -> None:
        self.run.log.warn(sentence, self.target)

    def move(self, status: Status, **values: Any) -> None:
        """Write what is about to be done, before it is done. Raises `StoppedError` when it may not be."""
        if not insist(lambda: self.target.move(status, **values)):
            raise StoppedError(_("This worker no longer holds the deployment"))

    def end(self, status: Status, error: str = "", **values: Any) -> None:
        """Write how it ended; the first end stays."""
        error = self.run.log.mask(error)
        if insist(lambda: self.target.move(status, error=error, **values)):
            label = Status(status).label
            if status == Status.SUCCESS:
                self.say(_("✔ %(server)s: %(label)s") % {"server": self, "label": label})
            else:
                self.run.log.error(
                    _("✘ %(server)s: %(label)s. %(why)s") % {"server": self, "label": label, "why": error}, self.target
                )

    def attempt(self, *steps: str, ended_too: bool = False) -> None:
        """Do ``steps`` in turn until one of them ends the target; ``ended_too``: also when it has ended."""
        for step in steps:
            if self.ended and not ended_too:
                return
            try:
                getattr(self, step)()
            except StoppedError as error:
                self.end(Status.CANCELLED, str(error))
            except (RunLostError, LinkLostError, UnreachableError) as error:
                lost_at_work = self.target.status in {Status.SWITCHING, Status.RESTARTING, Status.CHECKING}
                self.end(Status.UNKNOWN if lost_at_work else Status.FAILED, str(error))
            except ShellError as error:
                self.end(Status.FAILED, str(error))
        if "verify" in steps:
            self.gather_evidence()

    # --- steps -------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Log in, and look: what `preflight` goes by, where the login lives, and who the service is."""
        server = self.target.server
        if server is None:
            raise UnreachableError(_("%s was deleted after the launch") % self)
        try:
            self.shell = connect(server, on_notice=self.warn)
            self.look()
        except ShellError as error:
            message = str(error)
            insist(lambda: server.record_connection(message))
            raise
        insist(server.record_connection)

    def look(self) -> Seen:
        """Ask the server what there is to know before a restart, in one command."""
        self.facts, answer = look(self.link, self.plan, self.run.deployment.deployment_type)
        self.seen = Seen(answer)
        return self.seen

    def preflight(self) -> None:
        """See to it that what is about to be done can work: the place is free, and the look found nothing amiss."""
        server, place = self.link.server, self.deploy_path or self.script
        if holder := insist(lambda: Lease.take(server, place, self.run.deployment)):
            raise NotReadyError(
                _("Not started"),
                _("%(place)s on %(server)s is being worked on by deployment %(holder)s")
                % {"place": place, "server": server, "holder": holder},
                _("Wait for it or cancel it."),
            )
        found = findings(str(server), self.plan, self.run.deployment.deployment_type, self.found)
        for finding in found:
            if finding.level == Finding.WARNING:
                self.warn(str(finding))
        errors = [str(finding) for finding in found if finding.level == Finding.ERROR]
        if errors:
            raise NotReadyError(_("Not started"), " ".join(errors))

    @property
    def link(self) -> SSHShell:
        assert self.shell is not None  # noqa: S101 (`connect` is the first step of both routines)
        return self.shell

    @property
    def found(self) -> Facts:
        assert self.facts is not None  # noqa: S101 (`connect` is the first step of both routines)
        return self.facts

    @property
    def deploy_path(self) -> str:
        return service.at_home(self.plan.deploy_path, self.found.home).rstrip("/")

    @property
    def script(self) -> str:
        """The script of this deployment on this server, as an absolute path."""
        path = self.plan.script_for(self.run.deployment.deployment_type)
        return service.at_home(service.script_path(path, self.deploy_path), self.found.home)

    def stage(self) -> None:
        """Put the release beside the live one: whole, verified, not yet live."""
        self.move(Status.STAGING)
        staging = Staging(self)
        found = staging.look()
        self.target.release_before = self.target.release_after = found.live
        if self.run.release.version in found.releases:
            self.say(_("%s is on the server already") % self.run.release.version)
            staging.share()
        else:
            staging.put(found)
        self.move(Status.STAGED, release_before=self.target.release_before)

    def capture(self, text: str, what: str, fine: Container[int] = (0,)) -> str:
        """Run a short script of our own and give what it printed; another status than ``fine`` is a `TransferError`."""
        return self.accept(self.link.capture(text, timeout=self.plan.script_timeout), what, fine)

    def accept(self, answer: Output, what: str, fine: Container[int] = (0,)) -> str:
        """What ``answer`` printed if its status is one of ``fine``; else a `TransferError` that says why."""
        if answer.code in fine:
            return answer.stdout
        why = release_commands.REASONS.get(answer.code)
        detail = " / ".join(answer.stderr.strip().splitlines()[:2])[:500]
        if why:
            values = {"path": self.deploy_path}
            raise TransferError(what, (why[0] % values) + (f" ({detail})" if detail else ""), why[1] % values)
        raise TransferError(what, detail or _("status %d") % answer.code)

    def switch(self) -> None:
        """Make the staged release the live one, by one rename."""
        version = self.run.release.version
        self.need_script(service.in_release(self.script, self.deploy_path, version))
        self.run.check()
        self.move(Status.SWITCHING)
        self.capture(
            only_before(self.target.run_key) + release_commands.switch(self.deploy_path, version),
            _("The switch failed"),
        )
        self.switched = True
        self.target.release_after = version
        self.move(Status.SWITCHING, release_after=version)
        before = self.target.release_before
        switched = (
            _("Switched from %(before)s to %(after)s") if before else _("Switched to %(after)s, the first release")
        )
        self.say(switched % {"before": before, "after": version})

    def need_script(self, path: str) -> None:
        """Refuse to go on without the script: a restart that cannot work must not be begun."""
        found = self.link.capture(f"[ -f {quote(path)} ] || exit 4; [ -r {quote(path)} ] || exit 5").code
        if found:
            raise TransferError(
                _("The restart was not begun"),
                (_("the script %s does not exist") if found == 4 else _("the script %s cannot be read")) % path,
                _("Correct deploy_script_path in the project, or put the script there."),
            )

    def restart(self) -> None:
        """Run the script once, whatever happens to the link, and take down the exit status."""
        seen = self.seen
        if self.switched or seen is None or seen.age > FRESH:
            seen = self.look()
        self.before = self.question.read(seen.answer)
        if not self.switched:
            self.target.release_before = self.target.release_after = release_commands.release_name(self.found.live)
            self.run.check()  # after a switch the restart belongs to it: code and process must not part
        self.move(
            Status.RESTARTING,
            release_before=self.target.release_before,
            release_after=self.target.release_after,
            proof={"before": self.before},
        )
        self.say(_("Running %s") % self.script)
        self.follow(self.run.log.output(self.target))
        if self.ended:  # else verifying does it, with its first question
            self.link.forget(self.target.run_key)

    def follow(self, output: LogOutput) -> None:
        """Run the script unless that was done before, follow it to its end and write down how it ended."""
        try:
            code = self._run_script(self.target.run_key, self.environment(), output)
        except ScriptTimeoutError as error:
            raise ScriptTimeoutError(
                _("The script %(script)s ran longer than its %(seconds)d seconds and was ended")
                % {"script": self.script, "seconds": self.plan.script_timeout},
                "",
                _("Raise script_timeout if it needs longer."),
            ) from error
        insist(self.run.log.flush)  # whoever takes over from here on does not ask for the output again
        self.move(Status.CHECKING, exit_code=code)
        if code:
            self.end(Status.FAILED, _exit_sentence(self.script, code))

    def _run_script(self, key: str, environment: dict[str, str], output: LogOutput) -> int:
        """Run the script as the run ``key``, and ask who the service is as soon as it has ended; gives its status."""
        try:
            code, answer = self.link.run_and_ask(
                service.restart(self.script, environment, self.plan.run_as),
                self.question.text,
                output,
                timeout=self.plan.script_timeout,
                stop=self.run.force,
                key=key,
            )
        finally:
            output.finish()
        self.seen = Seen(answer)
        return code

    def environment(self) -> dict[str, str]:
        """What the script finds in its environment: the project's deploy variables and what is deployed."""
        deployment = self.run.deployment
        return {
            **self.plan.variables_for("deploy"),
            "DEPLOY_ID": str(deployment.pk),
            "DEPLOY_TYPE": deployment.deployment_type,
            "DEPLOY_PATH": self.deploy_path,
            "DEPLOY_RELEASE": self.target.release_after,
            "DEPLOY_COMMIT": deployment.commit_hash,
        }

    def verify(self) -> None:
        """Prove that the process was replaced, then ask every health check."""
        status, proof = self.prove(self.before, then=remove(self.target.run_key))
        if status != Status.SUCCESS:
            self.end(status, proof["sentence"], proof=proof)
            return
        if self.plan.health_checks:  # they may take a while; what was proved is shown meanwhile
            self.move(Status.CHECKING, proof=proof)
        if problem := self.ailment():
            self.end(Status.FAILED, problem, proof=proof)
        else:
            self.end(Status.SUCCESS, proof=proof)

    def prove(self, before: list[dict[str, Any]], then: str = "") -> tuple[Status, dict[str, Any]]:
        """What became of the process ``before``: the status that it deserves, and the evidence; both are said.

        ``then`` is a short script of our own that is run once the server has been asked.
        """
        question = self.question
        outcome, after = watch(self, question, before, self.target.release_after, self.seen, then)
        reloaded = outcome == service.UNCHANGED and self.plan.script_reloads
        proof = {"verdict": outcome, "name": question.name, "before": before, "after": after, "reloads": reloaded}
        sentence = service.proof_in_words(proof)
        for entry in after:
            if entry["old"]:
                self.warn(
                    _("pid %(pid)s is old code: it runs from release %(old)s, and %(live)s is live")
                    % {**entry, "live": self.target.release_after}
                )
        insist(lambda: self._record(after))
        (self.say if outcome == service.REPLACED else self.warn)(sentence)
        status = Status.SUCCESS
        if question.named and outcome != service.REPLACED and not reloaded:
            status = Status.UNCHANGED if outcome == service.UNCHANGED else Status.FAILED
        return status, {**proof, "sentence": sentence}

    def _record(self, processes: list[dict[str, Any]]) -> None:
        """Let the board of what runs where show what was found."""
        if self.target.server is not None:
            Sighting.record(
                self.run.deployment.project,
                self.target.server,
                release=self.target.release_after,
                processes=processes,
                problem="",
            )

    def _record_switch_back(self, version: str) -> None:
        """Let nobody take for somebody else's doing that another release is live than the one that was verified."""
        if self.target.record_switch_back(version):
            Sighting.objects.filter(project=self.run.deployment.project, server=self.target.server_id).update(
                release=version
            )

    def ailment(self) -> str:
        """What the first required health check that fails has to say; empty when the server is healthy."""
        for check in self.plan.health_checks:
            problem = run_check(self, check)
            if not problem:
                self.say(_("Healthy: %s") % check.label)
                continue
            sentence = _("Not healthy: %(check)s: %(problem)s") % {"check": check.label, "problem": problem}
            if check.required:
                return sentence
            self.warn(sentence)
        return ""

    def gather_evidence(self) -> None:
        """When it failed: keep what the server shows about the reason. Costs nothing when it cannot be asked."""
        if self.target.status not in {Status.FAILED, Status.UNCHANGED} or self.facts is None:
            return
        ports = [health.port_of(check.kind, check.target) for check in self.plan.health_checks]
        log_path = service.at_home(self.plan.log_path, self.found.home)
        text = service.evidence(log_path, self.question.unit, [port for port in ports if port])
        if not text:
            return
        try:
            shown = self.link.capture(text, timeout=15).stdout
        except ShellError:
            return
        shown = self.run.log.mask(clean_lines(shown))[-20_000:]
        if shown.strip():
            insist(lambda: Target.objects.filter(pk=self.target.pk).update(evidence=shown))
            self.run.log.warn(_("What the server shows:") + "\n" + shown, self.target)

    def tidy(self) -> None:
        """Remove releases beyond the ones to keep; never the live one, the previous one or one in use.

        Those that went well here are kept before those that did not. Done also where this one did not, so that
        failures in a row fill no disk; but only where the script has ended, and the server has not gone away.
        """
        if not self.switched or self.target.exit_code is None or self.target.server_id is None:
            return
        try:
            listing = self.capture(
                release_commands.inventory(self.deploy_path, self.plan.run_as), _("The releases could not be listed")
            )
            project, server = self.run.deployment.project, self.target.server_id
            seen = recorded(project, server).get(server, Recorded(""))
            kept = seen.needed | {self.target.release_before, self.run.release.version}
            bad = Release.objects.filter(project=project, state=Release.State.BAD).values_list("version", flat=True)
            old = release_commands.superfluous(listing, self.plan.keep_releases, kept, seen.failed.union(bad))
            if old:
                self.capture(release_commands.remove(self.deploy_path, old), _("Old releases could not be removed"))
                self.say(_("Removed old releases: %s") % ", ".join(old))
        except ShellError as error:
            self.warn(str(error))

    def settle(self) -> None:
        """After the worker was lost: ask the server what is true, and end the target by the answer.

        A script that was started is followed to its end and verified; one that was not is never started any
        more, and a switch without a restart is taken back, so that code and process belong together again.
        """
        status = self.target.status
        if self.ended:
            if self.target.undo_key and status != Status.ROLLED_BACK:
                self.say(_("The worker was lost while it rolled this server back; finishing that"))
                self.roll_back()
            return
        if status not in {Status.SWITCHING, Status.RESTARTING, Status.CHECKING}:
            self.end(Status.SKIPPED, _("Not started: the worker was lost before."))
            return
        self.connect()
        self.before = self.target.proof.get("before", [])
        if status != Status.CHECKING:
            if self.link.close_gate(self.target.run_key):
                self.take_switch_back()
                return
            self.say(_("The script was started by the lost worker; following it to its end"))
            self.follow(self.run.log.rest_of_output(self.target))
        elif self.target.exit_code:
            self.end(Status.FAILED, _exit_sentence(self.script, self.target.exit_code))
        if not self.ended:
            self.verify()

    def take_switch_back(self) -> None:
        """The restart was never begun: what is live must be what was live before."""
        release, previous = self.run.deployment.release, self.target.release_before
        live = release_commands.release_name(self.link.capture(release_commands.live(self.deploy_path)).stdout)
        if release is None or live != release.version:
            self.end(Status.SKIPPED, _("Not started: the worker was lost before the restart; nothing was changed."))
        elif previous:
            self.capture(release_commands.switch(self.deploy_path, previous), _("The switch back failed"))
            self.move(Status(self.target.status), release_after=previous)
            self.end(
                Status.FAILED,
                _(
                    "The worker was lost between switch and restart: "
                    "current leads to %s again, and nothing was restarted."
                )
                % previous,
            )
        else:
            self.end(
                Status.FAILED,
                _("The worker was lost between switch and restart: %s is live and was never started.") % live,
            )

    def roll_back(self) -> None:
        """Put this server back on the release that it had before: switch, restart, verify. One attempt.

        The key of its run is written first: whoever takes over from a lost worker finishes it, and nothing runs twice.
        """
        previous = self.target.release_before
        if not previous:
            self.warn(_("%s has no previous release to go back to") % self)
            return
        try:
            if self.facts is None:
                self.connect()
            if not self.target.undo_key:
                key, proof = secrets.token_hex(16), {**self.target.proof, "undone": self.question.ask(self.link)}
                if not insist(lambda: self.target.begin_rollback(key, proof)):
                    return
            problem, proof = self._undo(previous)
        except ShellError as error:
            problem = str(error)
        if problem:
            self.run.log.error(
                _("Rolling back %(server)s failed: %(why)s") % {"server": self, "why": problem}, self.target
            )
        elif insist(lambda: self.target.record_rollback(previous, proof)):
            self.say(_("Rolled back to %s.") % previous)

    def _undo(self, previous: str) -> tuple[str, dict[str, Any]]:
        """Switch back, restart, verify; gives what is wrong afterwards, empty when all is well, and the proof."""
        self.capture(
            only_before(self.target.undo_key) + release_commands.switch(self.deploy_path, previous),
            _("The switch back failed"),
            fine=(0, release_commands.TAKEN_OVER),  # the script has begun: the switch was made before it
        )
        insist(lambda: self._record_switch_back(previous))
        environment = self.environment() | {"DEPLOY_COMMIT": ""}
        code = self._run_script(self.target.undo_key, environment, self.run.log.output(self.target))
        if code:
            return _exit_sentence(self.script, code), {}
        status, proof = self.prove(self.target.proof["undone"])
        return (self.ailment() if status == Status.SUCCESS else str(proof["sentence"])), proof

    def abandon(self) -> None:
        """Let go of the server at once: another worker has it now."""
        if self.shell is not None:
            self.shell.abandon()

    def close(self) -> None:
        """Close the link."""
        if self.shell is not None:
            self.shell.close()


def _exit_sentence(script: str, code: int) -> str:
    if 128 < code <= 192:  # there are 64 signals; 255 is a status like any other
        return _("%(script)s ended with status %(code)d (killed by signal %(signal)d, or returned by the script).") % {
            "script": script,
            "code": code,
            "signal": code - 128,
        }
    return _("%(script)s ended with status %(code)d.") % {"script": script, "code": code}
