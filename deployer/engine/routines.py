"""The two routines, side by side: the steps they share, and where they differ."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from django.utils.translation import gettext as _

from deployer.engine.around import all_around, close, finish_undoing
from deployer.engine.asking import take_answer
from deployer.engine.building import build, built_before
from deployer.engine.cloning import clone
from deployer.engine.helping import Help
from deployer.engine.joining import bring, rejoin
from deployer.engine.outside import fetch_values
from deployer.engine.platform_steps import need_platform, prepare_on_platform, say_not_prepared, settle_platform
from deployer.engine.rollout import on_every_server, roll_out, take_turn
from deployer.engine.run import ALONE, Others, Run
from deployer.engine.server_run import ServerRun, Task
from deployer.engine.slices import share
from deployer.engine.steps import before, put_back
from deployer.engine.tidying import tidy
from deployer.engine.way_back import settle
from deployer.models import Deployment, Slice
from deployer.plan import Plan
from deployer.releases.store import need_store

Status = Deployment.Status


def full(run: Run) -> None:
    """clone → build → stage, prepare on every server → batch by batch: before, files, switch, restart, verify, after.

    A release that is there already, of the same commit and settings or chosen at launch, is not built again.
    """
    if not run.is_resumed or run.deployment.status == Status.BUILDING:  # then another worker has built it
        _make_ready(run)
    elif not run.work.has_release:  # it was parked before its build, or behind it
        take_answer(run)
        run.work.check()
        _make_ready(run)
    with all_around(run):
        roll_out(run, *_turn(run.deployment))
    on_every_server(run, tidy, ended_too=True)


def _make_ready(run: Run) -> None:
    """Everything before the first server is touched.

    A worker that goes on where nothing is stored yet does all of it once more: the built tree is gone. What a worker
    does not take is left to another one: that a build can be used is seen before it, by one that reaches the servers.
    """
    need_platform(run)
    fetch_values(run.work)
    if run.others.deploys:
        on_every_server(run, ServerRun.connect, ServerRun.preflight)
        run.find_same()
    if not run.work.has_release:
        run.need_servers()
        need_store()
        if run.others.build():
            run.hand_over(_("It is left to a worker that builds."))
        _make_release(run)
        if not run.others.deploys:
            if run.deployment.status != Status.BUILDING:  # somebody was asked about a step of the build
                run.move(Status.BUILDING)
            run.hand_over(_("It is left to a worker that deploys."))
    elif not run.is_resumed:
        say_not_prepared(run)
    if run.deployment.status != Status.DEPLOYING:
        run.move(Status.DEPLOYING)
    share(run, run.servers, Slice.Task.STAGE, lambda server: server.attempt(bring))


def _make_release(run: Run) -> None:
    """Build the release, or find that it was built before."""
    work = run.work
    with clone(work) as checkout:
        run.move(Status.BUILDING)
        known = built_before(work, checkout)
        work.release = known or build(work, checkout, partial(prepare_on_platform, run))
    if known is not None:
        say_not_prepared(run)


def _turn(deployment: Deployment) -> list[Task]:
    """What is done on a server whose turn it is."""
    if deployment.keeps_release:
        return [ServerRun.arrive, before, ServerRun.put_files, ServerRun.restart, ServerRun.verify]
    return [rejoin, before, ServerRun.put_files, ServerRun.switch, ServerRun.restart, ServerRun.verify]


def restart_only(run: Run) -> None:
    """batch by batch: before, config files, restart (or stop, or start), verify, after. The release stays.

    A stop and a start have neither steps nor config files.
    """
    if not run.is_resumed:  # behind a pause, they are had where they are needed
        need_platform(run)
        fetch_values(run.work)
    with all_around(run):
        roll_out(run, *_turn(run.deployment))


def steps_after(run: Run) -> None:
    """The steps after, and nothing else, on servers that an earlier deployment has left drained."""
    fetch_values(run.work)
    on_every_server(run, ServerRun.connect, ServerRun.take_lease, put_back)


ROUTINES = {Deployment.Type.FULL: full} | dict.fromkeys(Deployment.WITHOUT_RELEASE, restart_only)


def carry_out(deployment_id: int, claim: str = "", others: Others = ALONE) -> bool:
    """Claim a deployment and run its routine. False: it is not there to be claimed, so nothing was done.

    One whose plan cannot be read is not claimed: raises `DecryptionError`.
    """
    deployment = Deployment.objects.active().select_related("project").filter(pk=deployment_id).first()
    if deployment is None or not (_has_plan(deployment) and deployment.claim_for_worker(claim)):
        return False
    with Run(deployment, others) as run:
        routine = steps_after if run.work.plan.puts_back else ROUTINES[Deployment.Type(deployment.deployment_type)]
        routine(run)
    return True


def resume(deployment_id: int, claim: str = "", others: Others = ALONE) -> bool:
    """Claim a deployment that was parked, and go on with it. False: it is not there to be claimed, or waits still.

    Raises `DecryptionError` as above.
    """
    deployment = Deployment.objects.parked().select_related("project", "release").filter(pk=deployment_id).first()
    if deployment is None or not (_has_plan(deployment) and deployment.claim_parked(claim)):
        return False
    with Run(deployment, others, is_resumed=True) as run:
        ROUTINES[Deployment.Type(deployment.deployment_type)](run)
    return True


def settle_lost(deployment_id: int, claim: str = "") -> bool:
    """Claim an interrupted deployment and ask its servers what is true; nothing is started on them.

    False: it is not there to be claimed. Raises `DecryptionError` as above.
    """
    deployment = Deployment.objects.active().select_related("project", "release").filter(pk=deployment_id).first()
    if deployment is None or not (_has_plan(deployment) and deployment.claim_to_settle(claim)):
        return False
    with Run(deployment) as run:
        settle_platform(run)
        on_every_server(run, settle, ended_too=True)
        finish_undoing(run)
        close(run)
    return True


def help_with(deployment_id: int, slice_id: int, claim: str, may_take: Callable[[], bool] = lambda: True) -> bool:
    """Help the worker that carries a deployment out with what a slice is of. False: nothing of that is free any more.

    ``may_take`` is asked before each further slice. Raises `DecryptionError` as above.
    """
    deployment = Deployment.objects.running().select_related("project", "release").filter(pk=deployment_id).first()
    offered = Slice.objects.filter(pk=slice_id, deployment=deployment_id).first()
    if deployment is None or offered is None or offered.coordinator != deployment.claim or not _has_plan(deployment):
        return False
    deployment.helper = claim
    task = Slice.Task(offered.task)
    tasks = [bring] if task == Slice.Task.STAGE else _turn(deployment)
    with Help(deployment, task, may_take) as it:
        return it.carry_out(lambda server: take_turn(server, *tasks) if task == task.TURN else server.attempt(*tasks))
    return False


def _has_plan(deployment: Deployment) -> bool:
    """Read the plan before the deployment is claimed: once it is, its worker has to end it."""
    return bool(Plan.from_json(cast(dict[str, Any], deployment.plan)))
