"""Runs the steps batch by batch: which servers go together, the failure budget, the way back."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from django.conf import settings
from django.db import connections
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.engine.run import Run
from deployer.engine.server_run import ServerRun, Task
from deployer.engine.steps import after
from deployer.engine.way_back import roll_back
from deployer.models import Target


def on_every_server(run: Run, *tasks: Task, ended_too: bool = False) -> None:
    """Do ``tasks`` on all servers in parallel; one that fails does not stop the others."""
    _side_by_side(run.servers, lambda server: server.attempt(*tasks, ended_too=ended_too))


def roll_out(run: Run, *tasks: Task) -> None:
    """Do ``tasks`` batch by batch until all are done, the budget is spent or somebody cancels.

    Every server of the first batch is tried whatever happened before: one that fails stops no other of its batch.
    Of one that fails, the evidence is kept. Whoever's turn has begun gets the steps after, one that is put back once it
    is.
    """
    undecided: list[ServerRun] = []

    def turn(server: ServerRun) -> None:
        server.attempt(*tasks)
        server.attempt(ServerRun.take_files_back, ended_too=True)
        server.attempt(ServerRun.keep_evidence, ended_too=True)
        if run.work.plan.auto_rollback and server.is_changed and server.target.has_failed:
            undecided.append(server)
        else:
            server.attempt(after, ended_too=True)

    waiting = [server for server in run.servers if not server.target.has_ended]
    batches = [list(servers) for _number, servers in groupby(waiting, key=lambda server: server.target.batch)]
    for number, batch in enumerate(batches, start=1):
        if number > 1:
            if over_budget(run):
                break
            if number == 2 and run.work.plan.pause_after_first:
                run.pause()
            _spare_last_healthy(run, batch)
        if run.work.stop.is_set():
            break
        if len(batches) > 1:
            run.log.say(
                _("Batch %(number)d of %(batches)d: %(servers)s")
                % {"number": number, "batches": len(batches), "servers": ", ".join(map(str, batch))}
            )
        _side_by_side(batch, turn)
        if not over_budget(run):
            _side_by_side(undecided, lambda server: server.attempt(after, ended_too=True))
            undecided.clear()
    if over_budget(run):
        _stop_here(run)


def _spare_last_healthy(run: Run, batch: Sequence[ServerRun]) -> None:
    """Skip servers of ``batch`` when every other one of their group has failed here: one must keep serving.

    Where all are to be stopped, none must.
    """
    if run.work.plan.may_stop_last_healthy or run.deployment.is_stop:
        return
    failed = {server.target.server_id for server in run.servers if server.target.has_failed}
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


def over_budget(run: Run) -> bool:
    """Whether more servers have failed than the plan tolerates; unreachable and unknown ones count."""
    return run.failures() > run.work.plan.max_failures


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
        for server in untouched:
            server.end(Target.Status.SKIPPED, _("Not started: more servers had failed than the failure budget allows."))
    touched = [server for server in run.servers if server.is_changed]
    if run.work.plan.auto_rollback and touched:
        told = _("Rolling back %s to their previous releases")
        if run.deployment.is_restart_only:
            told = _("Putting back the config files of before on %s, and restarting")
        run.log.warn(told % ", ".join(map(str, touched)))
        _side_by_side(touched, lambda server: server.attempt(roll_back, ended_too=True))


def _side_by_side(servers: Sequence[ServerRun], do: Callable[[ServerRun], None]) -> None:
    """Work on ``servers`` in threads of their own; a slow or dead one delays nobody but the end of the batch."""

    def work(server: ServerRun) -> None:
        try:
            do(server)
        finally:
            connections.close_all()  # this thread's own

    if not servers:
        return
    with ThreadPoolExecutor(min(len(servers), settings.DEPLOYER_PARALLEL_SERVERS), "server") as threads:
        for done in [threads.submit(work, server) for server in servers]:
            done.result()
