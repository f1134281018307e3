"""The site's side: which logs there are, a wish to follow one, and the news of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from deployer.models import FollowedLine, LogFollow, Standing
from deployer.queue.sending import enqueue_follow
from people.models import User
from people.now import Now
from people.record import Act, actor, record
from people.rights import insist
from people.roles import Action
from projects.models import Project
from servers.models import Server

#: A log that nobody has asked for this long is not followed any more, and its lines go this long after its end.
PATIENCE, KEPT = timedelta(seconds=15), timedelta(seconds=60)
#: How often it is written that somebody asks, whoever they are and however many.
ASKED_EVERY = timedelta(seconds=3)
#: A log whose worker has shown no sign of life for this long is taken over by another one.
LOST = timedelta(seconds=10)
#: Lines of one answer.
MOST_LINES = 500
#: Logs that are followed at once: on one server, and in all.
ON_A_SERVER, IN_ALL = 4, 40


class NotFollowedError(Exception):
    """A log that cannot be followed now; the message says why."""


@dataclass(frozen=True)
class Lines:
    """The lines after an id, and how the log stands."""

    lines: Sequence[FollowedLine]
    last_id: int
    follow: LogFollow

    @property
    def has_ended(self) -> bool:
        return self.follow.ended_at is not None


def servers_of(project: Project) -> "list[Server]":
    """The active servers of its groups, and those that it was deployed to, by name."""
    members = Q(groups__projects=project) | Q(pk__in=Standing.objects.filter(project=project).values("server"))
    return [*Server.objects.filter(members, is_active=True).distinct().order_by("name")]


def begin(project: Project, server: Server, kind: str, name: str, user: User) -> LogFollow:
    """Follow a log, or join those who do: that is recorded. Raises `NotFollowedError`, or `NotAllowedError`."""
    insist(user, Action.OPERATE, project)
    if (kind, name) not in project.logs or server not in servers_of(project):
        raise NotFollowedError(_("The project has no such log there any more."))
    found = _joined(project, server, kind, name)
    if found is None:
        open_ones = LogFollow.objects.open().filter(asked_at__gt=Now() - PATIENCE)
        if open_ones.filter(server=server).count() >= ON_A_SERVER or open_ones.count() >= IN_ALL:
            raise NotFollowedError(_("As many logs as may be are followed there already: close one of them first."))
        try:
            with transaction.atomic():
                found = LogFollow.objects.create(project=project, server=server, kind=kind, name=name)
        except IntegrityError:
            found = _joined(project, server, kind, name)
            if found is None:
                raise
    values = {"server": server.name, "log": name}
    record(actor().by(user), Act.DOWNLOADED, project, None, values, gettext_noop("application log, live"))
    _call_worker()
    return found


def _call_worker() -> None:
    """Have a worker come, unless one is at work: it takes what is new by itself."""
    if not LogFollow.objects.open().filter(beat_at__gt=Now() - ASKED_EVERY).exists():
        enqueue_follow()


def _joined(project: Project, server: Server, kind: str, name: str) -> LogFollow | None:
    rows = LogFollow.objects.open().filter(project=project, server=server, kind=kind, name=name)
    return rows.first() if rows.update(asked_at=Now()) else None


def news(follow: LogFollow, after: int) -> Lines:
    """What came after an id; that somebody asks is written down, now and then."""
    if follow.ended_at is None:
        LogFollow.objects.filter(pk=follow.pk, asked_at__lt=Now() - ASKED_EVERY).update(asked_at=Now())
        if follow.beat_at is None or follow.beat_at < timezone.now() - LOST:
            _call_worker()
    lines = [*FollowedLine.objects.filter(follow=follow, id__gt=after).order_by("id")[:MOST_LINES]]
    return Lines(lines, lines[-1].pk if lines else after, follow)


def sweep_follows(now: datetime) -> int:
    """Delete what is over, with its lines, also where the worker that followed it is gone."""
    over = Q(ended_at__lt=now - KEPT) | Q(asked_at__lt=now - 10 * KEPT)
    return LogFollow.objects.filter(over).delete()[0]
