"""Launches a train: one plan, with the commits of all stops as they are now."""

import hashlib
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from deployer.gates.reasons import said
from deployer.models import Deployment, Train, TrainRun, TrainStop
from deployer.releases.versions import running_in
from deployer.trains.driving import drive
from deployer.trains.planned import Answers, Planned, TrainRefusedError, insist_on_all, plan_stops
from people.models import User
from people.record import Act, actor, record


def launch_train(
    train: Train,
    *,
    created_by: User | None,
    trigger: str,
    launched_for: str = "",
    note: str = "",
    answers: Answers | None = None,
) -> TrainRun:
    """Write a run of ``train`` with its stops and the ``answers`` that each gives, and begin with the first.

    Raises `TrainRefusedError`, which names each stop that cannot be launched, and `NotAllowedError`. A closed gate
    refuses nothing: the train is held at that stop.
    """
    active = TrainRun.objects.active().filter(train=train).first()
    if active is not None:
        raise TrainRefusedError(_("“%(train)s” is under way already, as #%(number)d.") % _words(train, active))
    launcher: dict[str, Any] = {"created_by": created_by, "trigger": trigger, "launched_for": launched_for}
    planned = plan_stops(train, fetched=True, answers=answers or {}, **launcher)
    insist_on_all(planned)
    with transaction.atomic():
        run = _written(train, planned, created_by, trigger, launched_for, note)
        told = {
            "stops": [str(stop) for stop in run.stops.all()],
            "commits": [stop.commit for stop in run.stops.all()],
            "mode": run.mode,
            "at_failure": run.at_failure,
            "trigger": run.trigger,
        }
        record(actor().by(created_by), Act.LAUNCHED, run, None, told, run.note)
    drive(run.pk)
    run.refresh_from_db()
    return run


def _words(train: Train, run: TrainRun) -> dict[str, object]:
    return {"train": train, "number": run.pk}


def _written(
    train: Train, planned: Sequence[Planned], created_by: User | None, trigger: str, launched_for: str, note: str
) -> TrainRun:
    digests = [each.content.digest() if each.content else "" for each in planned]
    waits = any(each.asks_approval for each in planned)
    run = TrainRun.objects.create(
        train=train,
        name=train.name,
        status=TrainRun.Status.WAITING if waits else TrainRun.Status.RUNNING,
        note=said(note),
        created_by=created_by,
        owner=train.owner,
        launched_for=launched_for,
        trigger=trigger,
        is_by_machine=created_by is None and trigger == Deployment.Trigger.CLI,
        digest=hashlib.sha256("\n".join([train.mode, train.at_failure, *digests]).encode()).hexdigest(),
        **{name: getattr(train, name) for name in train.COURSE},
    )
    running = running_in([each.request.project for each in planned])
    for number, (each, digest) in enumerate(zip(planned, digests, strict=True), 1):
        request = each.request
        project, release = request.project, request.release
        there = running.get(project.pk, {})
        stop = TrainStop.objects.create(
            run=run,
            position=number,
            project=project,
            project_name=project.name,
            environment=project.environment,
            groups=[[group.pk, group.name] for group in request.groups],
            deployment_type=request.deployment_type,
            branch="" if request.keeps_release or release else request.code,
            release=release,
            release_version=release.version if release else "",
            commit=request.commit or (release.commit_hash if release else ""),
            commit_message=request.commit_message or (release.commit_message if release else ""),
            live={str(server.pk): there.get(server.pk, "") for server in request.active},
            digest=digest,
            answers=dict(request.answers) or None,
            asks_approval=each.asks_approval,
        )
        if each.asks_approval and each.answer is not None:
            stop.asked_teams.set(each.answer.required.teams)
    if waits:
        run.say()
    return run
