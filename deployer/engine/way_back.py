"""The ways back: a server is put on its previous release, and what a lost worker left is settled."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.server_run import AT_WORK, ServerRun, exit_sentence
from deployer.engine.staging import Staging
from deployer.engine.steps import after, prepare_again, put_back, settle_open
from deployer.models import Release, Sighting, StepAction, Target
from deployer.plan import Plan
from projects.commands import release as release_commands
from projects.commands.matching import Found
from projects.commands.proof import Proof
from servers.errors import OUTCOME_UNKNOWN, NotReadyError, ShellError, TransferError, explained
from servers.sentences import clauses, sentences, storable
from servers.supervised.run import SupervisedRun
from servers.supervised.script import only_before

Status = Target.Status


def settle(server: ServerRun, close: Callable[[ServerRun], None] = after) -> None:
    """After the worker was lost, ask the server for its true state, and end the target accordingly.

    A script that was started is followed to its end and verified; one that was not is never started, and a switch
    without a restart is undone, so that code and process match again. ``close`` is what its turn ends with.
    """
    target = server.target
    settle_open(server)
    if server.plan.puts_back and target.status == Status.CHECKING:
        put_back(server)
        return
    if target.has_ended:
        if target.undo_key and target.status != Status.ROLLED_BACK:
            server.voice.say(_("The worker was lost while rolling this server back; finishing the rollback"))
            roll_back(server)
        else:
            _finish_taking_files_back(server)
            if target.was_undone:
                after(server, StepAction.UNDO)
            else:
                close(server)
        return
    if target.status not in AT_WORK and server.has_begun:
        server.end(Status.FAILED, _("It had failed, and the worker was lost before it was tried again."))
        close(server)
        return
    if target.status not in AT_WORK:
        server.end(Status.SKIPPED, _("Not started: the worker was lost before that."))
        close(server)
        return
    server.reach()
    server.before = tuple(Found(proof.before, proof.near) for proof in Proof.from_json(target.proof).each)
    if target.status != Status.CHECKING:
        if SupervisedRun(server.link, target.run_key).close_gate():
            if server.has_run_before:
                told = _("It had failed, and the worker was lost before its script was run again: nothing is put back.")
                server.end(Status.FAILED, told)
            else:
                _take_switch_back(server)
            close(server)
            return
        server.voice.say(_("The script was started by the worker that was lost; following it to its end"))
        if problem := _unmasked(server):
            server.end(Status.UNKNOWN, _("Not followed to its end: %s") % problem)
            close(server)
            return
        log = server.work.log
        server.follow(log.output(target) if server.work.journal.on(target) else log.rest_of_output(target))
    elif target.exit_code:
        server.end(Status.FAILED, exit_sentence(server.location.label, target.exit_code))
    if not target.has_ended:
        server.verify()
    server.keep_evidence()
    close(server)


def _finish_taking_files_back(server: ServerRun) -> None:
    """Put back the config files of a server that had ended after them and before its switch or its script."""
    server.resume()
    if server.has_other_files and not (server.switched or server.target.proof):
        server.reach()
        server.take_files_back()


def _unmasked(server: ServerRun) -> str:
    """Why what a script writes cannot be taken down: the secrets in it cannot be had."""
    try:
        server.values()
    except ShellError as error:
        return str(error)
    return ""


def _take_switch_back(server: ServerRun) -> None:
    """The restart never began: make the release live again that was live before, with the config files of then."""
    release, previous = server.work.deployment.release, server.target.release_before
    deploy_path = server.location.deploy_path
    live = release_commands.release_name(server.link.capture(release_commands.live(deploy_path)).stdout)
    if release is None or live != release.version:
        why = _("Not started: the worker was lost before the restart; nothing was changed.")
        try:
            back = server.put_files_back()
        except (NotReadyError, TransferError) as error:
            told = _("Not started: the worker was lost before the restart, and the config files may be the new ones.")
            server.end(Status.FAILED, sentences(told, str(error)), proof={})
            return
        if back:
            why = _("Not started: the worker was lost before the restart; the config files were put back.")
        if server.target.status in {Status.STOPPING, Status.STARTING}:
            why = _("Not started: the worker was lost before its script began; nothing was changed.")
        server.end(Status.SKIPPED, why, proof={})
    elif previous:
        try:
            _make_whole(server, previous)
        except ShellError as error:
            left = _("The worker was lost between switch and restart: %s is live and was never started.") % live
            server.end(Status.FAILED, sentences(left, str(error)))
            return
        problem = ""
        try:
            server.put_files_back()
        except ShellError as error:
            problem = str(error)
        server.commands.capture(release_commands.switch(deploy_path, previous), _("Switching back failed"))
        server.move(Status(server.target.status), release_after=previous)
        told = _(
            "The worker was lost between switch and restart: current points to %s again, and nothing was restarted."
        )
        server.end(Status.FAILED, sentences(told % previous, problem))
    else:
        server.end(
            Status.FAILED,
            _("The worker was lost between switch and restart: %s is live and was never started.") % live,
        )


def roll_back(server: ServerRun) -> None:
    """Put this server back on the release that it had before: config files, switch, restart, verify. One attempt.

    Where only its config files were replaced, those are put back.

    The key of its run is written first: a worker that takes over finishes it, and nothing runs twice. How it ended is
    the server's end from then on: what was true of the release before is not any more.
    """
    target = server.target
    previous = target.release_before
    if not previous and not _keeps_release(server):
        _stay(server)
        after(server)
        return
    undone, status, had_begun = _Undone(), Status.FAILED, bool(target.undo_key)
    try:
        with explained(server):
            if server.facts is None:
                server.connect()
            if target.status == Status.UNKNOWN:  # its script may still be running: two are never run side by side
                SupervisedRun(server.link, target.run_key).kill(server.plan.run_as)
            if not target.undo_key and not _begin(server):
                return
            _undo(server, previous, undone)
    except ShellError as error:
        undone.problem = str(error)
        # Without its link, nobody knows how far a rollback came that had begun; one that had not changes nothing.
        is_lost = isinstance(error, OUTCOME_UNKNOWN) or (had_begun and isinstance(error, NotReadyError))
        if is_lost and (target.undo_key or target.status == Status.UNKNOWN):
            status = Status.UNKNOWN
    if undone.problem:
        _fail(server, status, previous, undone)
    elif insist(lambda: target.record_rollback(previous, undone.proof.to_json())):
        done = _("Restarted with the config files of before.") if _keeps_release(server) else _("Rolled back to %s.")
        server.voice.say(done if _keeps_release(server) else done % previous)
    after(server, StepAction.UNDO)
    server.tell_others()


def _keeps_release(server: ServerRun) -> bool:
    """Whether the deployment changes no release, so that only config files can be put back."""
    return server.work.deployment.keeps_release


@dataclass
class _Undone:
    """What came of a rollback: the ``problem`` that remains, how the script ended if it did, and the proof."""

    problem: str = ""
    exit_code: int | None = None
    proof: Proof = field(default_factory=Proof)


def _stay(server: ServerRun) -> None:
    """Say of a server that has no previous release that it keeps the new one; its end stays what it is."""
    target = server.target
    why = _("it has no previous release to go back to: %s stays live") % target.release_after
    server.voice.warn(f"{server}: {why}")
    insist(lambda: target.record_more(clauses(target.error, why)))


def _fail(server: ServerRun, status: Status, previous: str, undone: _Undone) -> None:
    """Write that the rollback failed: why it was rolled back, why that failed, and which release is live."""
    target = server.target
    had_succeeded = target.status == Status.SUCCESS
    if server.work.deployment.roll_back_requested_at is not None:
        had_gone_well = _("It had succeeded, but somebody chose to roll back")
    else:
        had_gone_well = _("It had succeeded, but more servers failed than the failure budget allows")
    first = target.error or had_gone_well
    if _keeps_release(server):
        second = _("putting its config files back and restarting it failed: %(why)s")
    elif target.release_after != previous and status == Status.UNKNOWN:
        second = _("how its rollback from %(live)s to %(previous)s ended is not known: %(why)s")
    elif target.release_after == previous:
        second = _("%(previous)s is live again, but its rollback failed: %(why)s")
    else:
        second = _("rolling it back to %(previous)s failed, and %(live)s is still live: %(why)s")
    words = {"previous": previous, "live": target.release_after, "why": undone.problem}
    error = storable(server.work.log.mask(clauses(first, second % words)))
    values: dict[str, Any] = {}
    if target.undo_key:  # else nothing was done, and what is known of its own script and process still holds
        before = [proof.undone or () for proof in Proof.from_json(target.proof).each]
        proof = undone.proof.undoing(before, before=True)
        values = {"exit_code": undone.exit_code, "proof": proof.to_json()}
    server.voice.error(_("Rolling back %(server)s failed: %(why)s") % {"server": server, "why": undone.problem})
    if insist(lambda: target.record_failed_rollback(status, error, **values)) and had_succeeded:
        server.keep_evidence()


def _begin(server: ServerRun) -> bool:
    """Write the key of the run that is about to begin, and who the service is before it. Says whether it won."""
    insist(server.work.log.flush)  # from here on, what is written down of its output is that of this run
    key = secrets.token_hex(16)
    services = [found.processes for found in server.inquiry.ask(server.link)]
    proof = Proof.from_json(server.target.proof).undoing(services)
    return insist(lambda: server.target.begin_rollback(key, proof.to_json()))


def _undo(server: ServerRun, previous: str, undone: _Undone) -> None:
    """Put the config files back, switch back, restart, verify.

    What came of it is written into ``undone`` as soon as it is known.
    """
    target = server.target
    server.put_files_back(before=target.undo_key)
    server.former = _former_plan(server)
    if not _keeps_release(server):
        _make_whole(server, previous)
        server.commands.capture(
            only_before(target.undo_key) + release_commands.switch(server.location.deploy_path, previous),
            _("Switching back failed"),
            fine=(0, release_commands.TAKEN_OVER),  # the script has begun: the switch was made before it
        )
        insist(lambda: _record_switch_back(server, previous))
    environment = server.environment(target.release_after, StepAction.UNDO, server.former)
    code = server.run_script(target.undo_key, environment, server.work.log.output(target))
    undone.exit_code = code
    if code:
        undone.problem = exit_sentence(server.location.label, code)
        return
    before = [Found(proof.undone or ()) for proof in Proof.from_json(target.proof).each]
    status, undone.proof = server.verification.prove(before, server.seen)
    if status == Status.SUCCESS and not (problem := server.verification.ailment()):
        status, undone.proof = server.verification.confirm(before, undone.proof)
    undone.problem = server.verification.told_of_bad(undone.proof) if status != Status.SUCCESS else problem


def _former_plan(server: ServerRun) -> Plan | None:
    """The plan by which the server last came to what it is put back to: the values of that one were live.

    Nothing where none is known, or it cannot be read: then the values of this deployment have to do.
    """
    target = server.target
    rows = Target.objects.filter(server=target.server_id, deployment__project=server.work.deployment.project)
    ran = rows.filter(pk__lt=target.pk, exit_code__isnull=False).exclude(status=Status.ROLLED_BACK)
    before = insist(lambda: ran.select_related("deployment").order_by("-pk").first())
    if before is None or not before.deployment.has_plan:
        return None
    plan = Plan.from_json(cast(dict[str, Any], before.deployment.plan))
    server.work.learn(plan.secrets())
    mine, former = (it.variables_for("deploy", target.server_id) for it in (server.plan, plan))
    if mine != former:
        server.voice.say(_("The script runs with the variables of #%d, which were live before") % before.deployment.pk)
    return plan


def _make_whole(server: ServerRun, version: str) -> None:
    """Mend the release that is to be live again, if it was changed or deleted. Raises where that cannot be done.

    One that deployer does not know is taken as it is.
    """
    project = server.work.deployment.project
    known = insist(Release.objects.filter(project=project, version=version).first)
    known = known or insist(Release.objects.deployable_to(project).filter(version=version).first)
    if known is None:
        return
    staging = Staging(server.work, server.commands, server.voice, known)
    try:
        is_anew = staging.bring(staging.look())
    finally:
        staging.close()
    if is_anew:
        prepare_again(server, version)


def _record_switch_back(server: ServerRun, version: str) -> None:
    """Record the switch back, so that the board does not report it as a change by somebody else."""
    if server.target.record_switch_back(version):
        sightings = Sighting.objects.filter(project=server.work.deployment.project, server=server.target.server_id)
        sightings.update(release=version, is_lost=False)
