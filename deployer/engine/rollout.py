"""Runs the steps batch by batch: which servers go together, the failure budget, the way back."""

from collections.abc import Sequence
from itertools import groupby

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.engine.asking import ask_about_failures
from deployer.engine.run import Run
from deployer.engine.server_run import ServerRun, Task
from deployer.engine.slices import share
from deployer.engine.steps import after
from deployer.engine.way_back import roll_back
from deployer.models import Slice, Target
from projects.steps import Moment
from servers.sentences import because

Status = Target.Status


def on_every_server(run: Run, *tasks: Task, ended_too: bool = False) -> None:
    """Do ``tasks`` on all servers in parallel; one that fails does not stop the others."""
    run.side_by_side(run.servers, lambda server: server.attempt(*tasks, ended_too=ended_too))


def take_turn(server: ServerRun, *tasks: Task) -> None:
    """Do ``tasks`` on a server whose turn it is, and what follows from how they end.

    Its steps after are left out where it is not decided yet what comes next.
    """
    if not server.is_proved:
        server.attempt(*tasks)
        server.attempt(ServerRun.take_files_back, ended_too=True)
        server.attempt(ServerRun.keep_evidence, ended_too=True)
    if not _is_undecided(server):
        server.attempt(after, ended_too=True)


def _is_undecided(server: ServerRun) -> bool:
    """Whether it has failed, and may be put back or somebody is asked about it."""
    plan = server.plan
    is_open = plan.guided_failure or (plan.auto_rollback and server.is_changed)
    return server.target.has_failed and is_open and not server.work.journal.on(server.target, Moment.AFTER)


def roll_out(run: Run, *tasks: Task) -> None:
    """Do ``tasks`` batch by batch until all are done, the budget is spent or somebody cancels.

    Every server of the first batch is tried whatever happened before: one that fails stops no other of its batch.
    Of one that fails, the evidence is kept. Whoever's turn has begun gets the steps after, one that is put back once it
    is, and one that somebody is asked about once that is answered. Batches are counted on where another worker had
    begun.
    """
    plan = run.work.plan

    def turn(server: ServerRun) -> None:
        take_turn(server, *tasks)
        if _is_undecided(server):
            run.undecided.add(server)

    def close(server: ServerRun) -> None:
        if not _is_undecided(server):
            after(server)

    number = run.deployment.batches_done
    waiting = [server for server in run.servers if not server.target.has_ended and server not in run.again]
    batches = [list(servers) for _number, servers in groupby(waiting, key=lambda server: server.target.batch)]
    total = number + len(batches)
    for batch in [*batches, []]:
        if number:
            ask_about_failures(run, number, turn)
            if not run.is_over_budget and not run.stopped and not run.turn_back.is_set():
                _close_undecided(run)
            if run.is_over_budget:
                break
        if not batch or run.is_ending:
            break
        if number and plan.pauses_after(number) and number > run.deployment.paused_after:
            run.pause(number)
        if number:
            _spare_last_healthy(run, batch)
        if run.is_ending:
            break
        number += 1
        if total > 1:
            run.log.say(
                _("Batch %(number)d of %(batches)d: %(servers)s")
                % {"number": number, "batches": total, "servers": ", ".join(map(str, batch))}
            )
        others = share(run, batch, Slice.Task.TURN, turn, close)
        run.undecided |= {server for server in others if _is_undecided(server)}
    _end(run)


def _end(run: Run) -> None:
    """Put back what is to be, say why the other servers are not begun, and run the steps after that are left."""
    plan = run.work.plan
    if run.turn_back.is_set():
        if not run.work.stop.is_set():
            _leave_out(run, _("Not started: somebody chose to roll back."))
        _put_back(run)
    elif run.stopped:
        _leave_out(run, because(_("Not started"), run.stopped))
    elif run.is_over_budget and not (plan.guided_failure and run.work.stop.is_set()):
        _stop_here(run)
    _close_undecided(run)


def _close_undecided(run: Run) -> None:
    run.side_by_side([*run.undecided], lambda server: server.attempt(after, ended_too=True))
    run.undecided.clear()


def _spare_last_healthy(run: Run, batch: Sequence[ServerRun]) -> None:
    """Skip servers of ``batch`` when every other one of their group has failed here: one must keep serving.

    Where all are to be stopped, none must.
    """
    if run.work.plan.may_stop_last_healthy or run.deployment.is_stop:
        return
    failed = {
        server.target.server_id
        for server in run.servers
        if server.target.has_failed or server.target.pk in run.set_aside
    }
    for name, members in run.work.plan.groups.items():
        inside = [server for server in batch if server.target.server_id in members and not server.target.has_ended]
        others = set(members) - {server.target.server_id for server in inside}
        if inside and others and others <= failed:
            for server in inside:
                server.end(
                    Target.Status.SKIPPED,
                    _("Not started: it is the last healthy server of group “%s”, whose other servers have failed.")
                    % name,
                )


def _stop_here(run: Run) -> None:
    untouched = [server for server in run.servers if not server.target.has_ended]
    if untouched:
        failures = run.failures()
        run.log.error(
            ngettext(
                "%(failures)d server failed (allowed: %(budget)d): not started on %(servers)s.",
                "%(failures)d servers failed (allowed: %(budget)d): not started on %(servers)s.",
                failures,
            )
            % {
                "failures": failures,
                "budget": run.work.plan.max_failures,
                "servers": ", ".join(map(str, untouched)),
            }
        )
        _leave_out(run, _("Not started: more servers had failed than the failure budget allows."))
    if run.work.plan.auto_rollback:
        _put_back(run)


def _leave_out(run: Run, why: str) -> None:
    for server in run.servers:
        if not server.target.has_ended:
            server.end(Target.Status.SKIPPED, why)


def _put_back(run: Run) -> None:
    """Put every server that was changed back: on its previous release, and on the config files of before."""
    touched = [server for server in run.servers if server.is_changed and server.target.status != Status.ROLLED_BACK]
    if touched:
        told = _("Rolling back %s to their previous releases")
        if run.deployment.keeps_release:
            told = _("Putting back the config files of before on %s, and restarting")
        run.log.warn(told % ", ".join(map(str, touched)))
        run.side_by_side(touched, lambda server: server.attempt(roll_back, ended_too=True))
        run.undecided.difference_update(touched)
