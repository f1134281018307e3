"""Delete a project with all that is kept of it: deployments, logs, releases and their archives, gates and rights.

A history may have millions of lines: they go some at a time, so that others write in between, and the project goes
last. It is archived before anything goes; where deletion is cut short, it can be deleted again.
"""

from dataclasses import dataclass
from typing import Self

from django.db import models, transaction
from django.db.models import ProtectedError, Sum
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from deployer.archiving.archive import archive, refuse_while_at_work
from deployer.models import Deployment, LogChunk, LogLine, Release, Standing
from deployer.releases.archives import StoreError
from deployer.releases.store import forget
from deployer.upkeep.deleting import taking_turns
from deployer.upkeep.retention import forgetting
from people.models import ApiToken, Grant, User
from people.record import Act, actor, delete, record, saving
from people.refusals import RefusedError
from people.rights import insist
from people.roles import Action
from projects.models import Project
from servers.sentences import sentences


class NotConfirmedError(RefusedError):
    """The name of the project was not typed."""


@dataclass(frozen=True)
class Belongings:
    """What goes with a project: how many of each, and the bytes of its stored releases.

    Of the releases, ``shared`` were deployed by other projects too, and stay with those. ``tokens`` are for it alone.
    """

    deployments: int
    log_lines: int
    releases: int
    shared: int
    size: int
    grants: int
    tokens: int

    @classmethod
    def of(cls, project: Project) -> Self:
        """As they are now."""
        own = Deployment.objects.filter(project=project)
        # Lines of a log are numbered: the last number is how many there are, and found by an index.
        own_log = models.OuterRef("pk")
        row = LogLine.objects.filter(deployment=own_log).order_by("-id").values("number")[:1]
        packed = LogChunk.objects.filter(deployment=own_log).order_by("-last_id").values("last_number")[:1]
        last_number = Coalesce(models.Subquery(row), models.Subquery(packed))
        shared = _shared(project)
        releases = Release.objects.filter(project=project).exclude(pk__in=shared)
        return cls(
            deployments=own.count(),
            log_lines=own.annotate(lines=last_number).aggregate(all=Sum("lines"))["all"] or 0,
            releases=releases.count(),
            shared=len(shared),
            size=releases.stored().aggregate(all=Sum("size"))["all"] or 0,
            grants=Grant.objects.filter(project=project.pk).count(),
            tokens=sum(token.projects == [project.pk] for token in _tokens(project)),
        )


def servers_of(project: Project) -> tuple[str, ...]:
    """The servers that something of it stays on, whatever becomes of it here."""
    standings = Standing.objects.filter(project=project).order_by("server__name")
    return tuple(standings.values_list("server__name", flat=True))


def right_to_delete(project: Project) -> Action:
    """What somebody needs the right to: a history is deleted by an admin alone."""
    return Action.ADMINISTER if project.has_history else Action.EDIT


def remove(project: Project, by: User | None, typed: str = "", login: str = "") -> Belongings:
    """Delete it with everything. Whoever deletes a history has ``typed`` the name of the project.

    Gives what is gone. Raises `NotAllowedError`, `NotConfirmedError`, and `RefusedError` while a deployment is at work
    or where the store refuses: then what is left can be deleted again.
    """
    if by is not None:
        insist(by, right_to_delete(project), project)
    is_history = project.has_history
    if is_history and typed != project.name:
        raise NotConfirmedError(_("Type the name of the project to delete it with everything: %s") % project.name)
    refuse_while_at_work(project)
    if not project.is_archived:
        archive(project, by, login=login)
    going = Belongings.of(project)
    if is_history:
        _record(project, going)
        _hand_over(project)
        _delete_deployments(project)
        _delete_releases(project)
    _delete_rest(project)
    return going


def _record(project: Project, going: Belongings) -> None:
    """One entry for all of the history, however long it is; it is about to go."""
    counts = {"deployments": going.deployments, "log_lines": going.log_lines, "releases": going.releases}
    record(actor(), Act.DELETED, project, counts, None, gettext_noop("its deployments, their logs and its releases"))


def _shared(project: Project) -> dict[int, int]:
    """The releases that other projects have deployed too, by number, each with the last project that did."""
    others = Deployment.objects.filter(release__project=project).exclude(project=project).order_by("id")
    return dict(others.values_list("release", "project"))


def _hand_over(project: Project) -> None:
    """Let other projects keep the releases that they have deployed: they may be live there, or the way back."""
    for number, other in _shared(project).items():
        release = Release.objects.get(pk=number)
        if not Release.objects.filter(project=other, version=release.version).exists():
            Release.objects.filter(pk=number).update(project=other)


def _delete_deployments(project: Project) -> None:
    for number in Deployment.objects.filter(project=project).order_by("id").values_list("pk", flat=True):
        for _rows in taking_turns(forgetting(number)):
            pass


def _delete_releases(project: Project) -> None:
    for release in Release.objects.filter(project=project).order_by("id"):
        try:
            forget(release)
        except StoreError as error:
            told = _("Not everything is deleted yet. Delete the project again once the store answers.")
            raise RefusedError(sentences(str(error), told)) from error


def _delete_rest(project: Project) -> None:
    """The project, with its settings and gates and all rights to its number."""
    try:
        with transaction.atomic():
            delete(*Grant.objects.filter(project=project.pk))
            for token in _tokens(project):
                _narrow(token, project.pk)
            delete(project)
    except ProtectedError as error:
        raise RefusedError(_("“%s” was launched in the meantime: look again.") % project.name) from error


def _tokens(project: Project) -> list[ApiToken]:
    """The tokens that name its number. (No database compares lists of numbers as the other one does.)"""
    return [token for token in ApiToken.objects.exclude(projects=[]) if project.pk in token.projects]


def _narrow(token: ApiToken, number: int) -> None:
    """A token that was for this project alone is for nothing any more, and not for everything."""
    left = [each for each in token.projects if each != number]
    if not left:
        delete(token)
        return
    with saving(token):
        token.projects = left
        token.save(update_fields=["projects"])
