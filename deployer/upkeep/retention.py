"""What is deleted because of its age, or because there are newer ones; and what never is.

What is live, what is previous, the last that went well, what waits, and what anything of that is proved by, stays
whatever its age. Of the rest, what is too old goes; then what is beyond the newest ones. The record of who did what
stays longest: nothing of it is deleted here.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import F, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from deployer.database import deleting
from deployer.models import (
    CommandLine,
    CommandRun,
    CommandTarget,
    ConfigState,
    Deployment,
    Standing,
    StepRun,
    Tally,
    Target,
)
from deployer.models.deployment import DeploymentQuerySet
from deployer.repositories.mirror import delete_unused
from deployer.upkeep.deleting import deleting_log
from projects.models import Project

logger = logging.getLogger(__name__)

#: A mirror of a repository that no project has is deleted once nobody has fetched it for this long.
UNUSED = timedelta(days=7)
#: Of a project on a server, the latest changes of its release that stay: what was live before is found by them.
SWITCHES = 10


@dataclass(frozen=True)
class Limits:
    """What is kept of a project: days, or how many deployments; None is for ever, or any number."""

    logs: int | None
    evidence: int | None
    deployments: int | None
    count: int | None

    @classmethod
    def of(cls, project: Project) -> Self:
        """What the project says, and else the installation."""
        return cls(
            project.keep_logs_for or settings.DEPLOYER_LOG_DAYS or None,
            project.keep_evidence_for or settings.DEPLOYER_EVIDENCE_DAYS or None,
            project.keep_deployments_for or settings.DEPLOYER_DEPLOYMENT_DAYS or None,
            project.keep_deployments or settings.DEPLOYER_DEPLOYMENTS or None,
        )


@dataclass(frozen=True)
class Superfluous:
    """Deployments of a project by what of them may go: the whole, the log, the evidence of failures."""

    whole: DeploymentQuerySet
    logs: DeploymentQuerySet
    evidence: DeploymentQuerySet


def superfluous(project: Project, now: datetime) -> Superfluous:
    """What may go of a project."""
    limits = Limits.of(project)
    ended = Deployment.objects.ended().filter(project=project).order_by("pk")
    needed = needed_of(project)
    free = ended.exclude(pk__in=needed)
    return Superfluous(
        free.filter(_older(now, limits.deployments) | _beyond(ended, limits.count)),
        free.filter(_older(now, limits.logs), log_gone_at=None),
        free.filter(_older(now, limits.evidence), evidence_gone_at=None),
    )


def _older(now: datetime, days: int | None) -> Q:
    """For deployments that ended before so many days; for none where they are kept for ever."""
    return Q(pk__in=[]) if days is None else Q(finished_at__lt=now - timedelta(days=days))


def _beyond(ended: DeploymentQuerySet, count: int | None) -> Q:
    """For those behind the newest so many; for none where any number is kept, or there are no more."""
    newest = ended.order_by("-pk").values_list("pk", flat=True)
    last_kept = None if count is None else newest[count - 1 : count].first()
    return Q(pk__in=[]) if last_kept is None else Q(pk__lt=last_kept)


def needed_of(project: Project) -> set[int]:
    """The deployments of a project that stay whatever their age."""
    standings = Standing.objects.filter(project=project)
    needed: set[int | None] = {*standings.values_list("last__deployment", flat=True)}
    needed |= {*standings.values_list("proved__deployment", flat=True)}
    states = ConfigState.objects.filter(project=project)
    needed |= {*states.values_list("former_by", flat=True), *states.values_list("deployment", flat=True)}
    targets = Target.objects.filter(deployment__project=project, server__isnull=False).order_by()
    for rows, most in (
        (targets.exclude(release_after=""), 1),  # what is live
        (targets.exclude(release_after="").exclude(release_before=F("release_after")), SWITCHES),  # what was before
        (targets.filter(status=Target.Status.SUCCESS), 1),
    ):
        place = Window(RowNumber(), partition_by="server", order_by="-id")
        needed |= {*rows.annotate(place=place).filter(place__lte=most).values_list("deployment", flat=True)}
    own = Deployment.objects.filter(project=project)
    needed |= {*own.filter(status=Deployment.Status.SUCCESS).order_by("-pk").values_list("pk", flat=True)[:1]}
    needed |= {*own.filter(train_stop__run__finished_at=None, train_stop__isnull=False).values_list("pk", flat=True)}
    led_to = Deployment.objects.active()
    needed |= {*led_to.values_list("retry_of", flat=True), *led_to.values_list("rollback_from", flat=True)}
    return {pk for pk in needed if pk is not None}


@dataclass(frozen=True)
class Ripe:
    """How many of each would be deleted now; the logs and the evidence of deployments that stay."""

    deployments: int
    logs: int
    evidence: int
    commands: int
    sessions: int


def ripe(now: datetime | None = None) -> Ripe:
    """What `retiring` would delete."""
    moment = now or timezone.now()
    found = [superfluous(project, moment) for project in Project.objects.order_by("pk")]
    return Ripe(
        deployments=sum(each.whole.count() for each in found),
        logs=sum(each.logs.exclude(pk__in=each.whole).count() for each in found),
        evidence=sum(each.evidence.exclude(pk__in=each.whole).count() for each in found),
        commands=_old_commands(moment).count(),
        sessions=_old_sessions(moment).count(),
    )


def _old_commands(now: datetime) -> "QuerySet[CommandRun]":
    days = settings.DEPLOYER_COMMAND_DAYS
    rows = CommandRun.objects.filter(finished_at__lt=now - timedelta(days=days)) if days else CommandRun.objects.none()
    return rows.order_by("pk")


def _old_sessions(now: datetime) -> "QuerySet[Session]":
    return Session.objects.filter(expire_date__lt=now).order_by("pk")


def retiring(now: datetime | None = None) -> Iterator[int]:
    """Delete all that is not kept any longer; yields after each transaction how many rows went."""
    moment = now or timezone.now()
    for project in Project.objects.order_by("pk"):
        found = superfluous(project, moment)
        for pk in found.whole.values_list("pk", flat=True):
            yield from forgetting(pk)
        for pk in found.logs.values_list("pk", flat=True):
            yield from deleting_log(pk)
            Deployment.objects.filter(pk=pk).update(log_gone_at=moment)
        for pk in found.evidence.values_list("pk", flat=True):
            Target.objects.filter(deployment=pk).exclude(evidence="").write(evidence="")
            Deployment.objects.filter(pk=pk).update(evidence_gone_at=moment)
            yield 1
    yield from _forgetting_commands(moment)
    yield from deleting(_old_sessions(moment))
    if gone := delete_unused(UNUSED):
        logger.info("deleted the mirrors of %d repositories that no project has any more", gone)


def forgetting(pk: int) -> Iterator[int]:
    """Delete a deployment with all that is of it; what it was stays counted."""
    yield from deleting_log(pk)
    yield from deleting(StepRun.objects.filter(deployment=pk).order_by("pk"))
    yield from deleting(Target.objects.filter(deployment=pk).order_by("pk"))
    with transaction.atomic():
        it = Deployment.objects.defer("plan").filter(pk=pk).first()
        if it is None or it.finished_at is None:
            return
        took = (it.finished_at - it.started_at).total_seconds() if it.started_at else 0.0
        tally, _is_new = Tally.objects.get_or_create(deployment_type=it.deployment_type, status=it.status)
        Tally.objects.filter(pk=tally.pk).update(count=F("count") + 1, seconds=F("seconds") + took)
        it.delete()
    yield 1


def _forgetting_commands(now: datetime) -> Iterator[int]:
    for pk in _old_commands(now).values_list("pk", flat=True):
        yield from deleting(CommandLine.objects.of(pk))
        yield from deleting(CommandTarget.objects.filter(run=pk).order_by("pk"))
        yield from deleting(CommandRun.objects.filter(pk=pk))
