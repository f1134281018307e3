"""The ways back: a server is put on its previous release, and what a lost worker left is settled."""

import secrets
from dataclasses import replace

from django.utils.translation import gettext as _

from deployer.database import insist
from deployer.engine.server_run import AT_WORK, ServerRun, exit_sentence
from deployer.models import Sighting, Target
from projects.commands import release as release_commands
from projects.commands.proof import Proof
from servers.errors import ShellError
from servers.supervised.run import SupervisedRun
from servers.supervised.script import only_before

Status = Target.Status


def settle(server: ServerRun) -> None:
    """After the worker was lost, ask the server for its true state, and end the target accordingly.

    A script that was started is followed to its end and verified; one that was not is never started, and a switch
    without a restart is undone, so that code and process match again.
    """
    target = server.target
    if target.has_ended:
        if target.undo_key and target.status != Status.ROLLED_BACK:
            server.voice.say(_("The worker was lost while rolling this server back; finishing the rollback"))
            roll_back(server)
        return
    if target.status not in AT_WORK:
        server.end(Status.SKIPPED, _("Not started: the worker was lost before that."))
        return
    server.connect()
    server.before = Proof.from_json(target.proof).before
    if target.status != Status.CHECKING:
        if SupervisedRun(server.link, target.run_key).close_gate():
            _take_switch_back(server)
            return
        server.voice.say(_("The script was started by the worker that was lost; following it to its end"))
        server.follow(server.work.log.rest_of_output(target))
    elif target.exit_code:
        server.end(Status.FAILED, exit_sentence(server.location.script, target.exit_code))
    if not target.has_ended:
        server.verify()
    server.keep_evidence()


def _take_switch_back(server: ServerRun) -> None:
    """The restart never began: make the release live again that was live before."""
    release, previous = server.work.deployment.release, server.target.release_before
    deploy_path = server.location.deploy_path
    live = release_commands.release_name(server.link.capture(release_commands.live(deploy_path)).stdout)
    if release is None or live != release.version:
        server.end(Status.SKIPPED, _("Not started: the worker was lost before the restart; nothing was changed."))
    elif previous:
        server.commands.capture(release_commands.switch(deploy_path, previous), _("Switching back failed"))
        server.move(Status(server.target.status), release_after=previous)
        server.end(
            Status.FAILED,
            _("The worker was lost between switch and restart: current points to %s again, and nothing was restarted.")
            % previous,
        )
    else:
        server.end(
            Status.FAILED,
            _("The worker was lost between switch and restart: %s is live and was never started.") % live,
        )


def roll_back(server: ServerRun) -> None:
    """Put this server back on the release that it had before: switch, restart, verify. One attempt.

    The key of its run is written first: a worker that takes over finishes it, and nothing runs twice.
    """
    target = server.target
    previous = target.release_before
    if not previous:
        server.voice.warn(_("%s has no previous release to go back to") % server)
        return
    proof = Proof()
    try:
        if server.facts is None:
            server.connect()
        if not target.undo_key and not _begin(server):
            return
        problem, proof = _undo(server, previous)
    except ShellError as error:
        problem = str(error)
    if problem:
        server.voice.error(_("Rolling back %(server)s failed: %(why)s") % {"server": server, "why": problem})
    elif insist(lambda: target.record_rollback(previous, proof.to_json())):
        server.voice.say(_("Rolled back to %s.") % previous)


def _begin(server: ServerRun) -> bool:
    """Write the key of the run that is about to begin, and who the service is before it. Says whether it won."""
    insist(server.work.log.flush)  # from here on, what is written down of its output is that of this run
    key = secrets.token_hex(16)
    proof = replace(Proof.from_json(server.target.proof), undone=server.question.ask(server.link))
    return insist(lambda: server.target.begin_rollback(key, proof.to_json()))


def _undo(server: ServerRun, previous: str) -> tuple[str, Proof]:
    """Switch back, restart, verify; returns the remaining problem (empty when all is well) and the proof."""
    target = server.target
    server.commands.capture(
        only_before(target.undo_key) + release_commands.switch(server.location.deploy_path, previous),
        _("Switching back failed"),
        fine=(0, release_commands.TAKEN_OVER),  # the script has begun: the switch was made before it
    )
    insist(lambda: _record_switch_back(server, previous))
    environment = server.environment() | {"DEPLOY_COMMIT": ""}
    code = server.run_script(target.undo_key, environment, server.work.log.output(target))
    if code:
        return exit_sentence(server.location.script, code), Proof()
    status, proof = server.verification.prove(Proof.from_json(target.proof).undone or (), server.seen)
    return (server.verification.ailment() if status == Status.SUCCESS else proof.told), proof


def _record_switch_back(server: ServerRun, version: str) -> None:
    """Record the switch back, so that the board does not report it as a change by somebody else."""
    if server.target.record_switch_back(version):
        sightings = Sighting.objects.filter(project=server.work.deployment.project, server=server.target.server_id)
        sightings.update(release=version)
