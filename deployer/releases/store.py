"""The store of releases: what the servers have of it, which archives may go, how much room they take."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage, default_storage
from django.db.models import F, Max, Q, QuerySet, Sum, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from deployer.database import insist
from deployer.models import Deployment, Release, Target
from deployer.releases import archives
from deployer.releases.contents import check_archive
from projects.models import Project

#: So many deployments to a server are looked through for the release to go back to.
MOVES = 100


def disk_use(project: Project | None = None) -> int:
    """Bytes of the archives that are stored, of one project or of all."""
    stored = Release.objects.stored()
    return (stored.filter(project=project) if project else stored).aggregate(size=Sum("size"))["size"] or 0


def need_store() -> None:
    """Ask the store for something, as saving a release will. Raises `archives.StoreError` if it cannot be used."""
    with archives.explained():
        default_storage.exists("deployer")


def store(release: Release, tar: Path) -> None:
    """Check and compress the plain archive ``tar`` and save ``release`` with it and its manifest.

    The compressed one is made beside ``tar``. Raises `UnsafeArchiveError` and `archives.StoreError`.
    """
    manifest = check_archive(tar)
    packed = archives.compress(tar, tar.with_suffix(".tar.zst"))
    release.size, release.sha256 = packed.size, packed.stream.sha256
    release.file_count, release.unpacked_size = len(manifest.files), manifest.size
    with archives.explained():
        with packed.path.open("rb") as file:
            release.archive.save(f"{release.version}.tar.zst", File(file), save=False)
        release.manifest.save(f"{release.version}.manifest.zst", ContentFile(archives.compressed(manifest)), save=False)
    insist(release.save)


class Recorded(NamedTuple):
    """What a server had when a deployment last touched it: the versions that were ``live`` then and ``before``.

    ``previous`` is the one to go back to: ``before``, unless that one had failed there; then the one that the server
    had before it, and so on. ``failed`` are those that have failed there and never gone well.
    """

    live: str
    before: str = ""
    previous: str = ""
    failed: frozenset[str] = frozenset()

    @property
    def needed(self) -> set[str]:
        """The versions that may not be deleted."""
        return {self.live, self.before, self.previous} - {""}


class _Move(NamedTuple):
    """What one deployment found on a server and left there, and how it ended."""

    before: str
    after: str
    status: str


def recorded(project: Project, *servers: int) -> dict[int, Recorded]:
    """What each server (by its id; only ``servers`` if any are named) was last seen with, as it said itself."""
    moved = _moved([project])
    if servers:
        moved = moved.filter(server__in=servers)
    newest_first = Window(RowNumber(), partition_by="server", order_by=F("id").desc())
    rows = moved.annotate(nth=newest_first).filter(nth__lte=MOVES).order_by("-id")
    moves: dict[int, list[_Move]] = {}
    for server, *move in rows.values_list("server", "release_before", "release_after", "status"):
        moves.setdefault(server, []).append(_Move(*move))
    return {server: _recorded(history) for server, history in moves.items()}


def _recorded(moves: list[_Move]) -> Recorded:
    """``moves`` of one server, the newest first."""
    live = moves[0].after
    good = {move.after for move in moves if move.status == Target.Status.SUCCESS}
    failed = frozenset(move.after for move in moves if move.status in Target.FAILURES) - good
    switches = [move.before for move in moves if move.before != move.after]  # a restart changes nothing
    befores = [version for version in takewhile(bool, switches) if version != live]
    previous = next((version for version in befores if version not in failed), befores[0] if befores else "")
    return Recorded(live, switches[0] if switches else "", previous, failed)


def live_in(projects: Iterable[Project]) -> dict[int, dict[int, str]]:
    """The version that each server was last seen with, by the ids of projects and servers."""
    found: dict[int, dict[int, str]] = {}
    for project, server, version in newest_of(_moved(projects), "release_after"):
        found.setdefault(project, {})[server] = version
    return found


def _moved(projects: Iterable[Project]) -> QuerySet[Target]:
    return Target.objects.filter(deployment__project__in=projects, server__isnull=False).exclude(release_after="")


def newest_of(targets: QuerySet[Target], *columns: str) -> Iterator[tuple[Any, ...]]:
    """Of the newest of ``targets`` of each project on each server: the ids of both, and ``columns``."""
    newest = targets.order_by().values("deployment__project", "server").annotate(newest=Max("id")).values("newest")
    rows = Target.objects.filter(pk__in=newest).values_list("deployment__project", "server", *columns)
    return rows.iterator()


def superfluous() -> list[Release]:
    """The stored releases that may go.

    The newest ``keep_releases`` good ones of a project stay, unless they are older than DEPLOYER_RELEASE_DAYS; so does
    a release that was not proved good, for DEPLOYER_UNPROVED_DAYS. Whatever their age, what is live or previous on
    any server stays, and so does what a deployment that has not ended is about to send.
    """
    now = timezone.now()
    oldest = now - timedelta(days=settings.DEPLOYER_RELEASE_DAYS)
    oldest_unproved = now - timedelta(days=settings.DEPLOYER_UNPROVED_DAYS)
    stored = Release.objects.stored()
    kept = set(Deployment.objects.active().values_list("release_id", flat=True))
    kept |= set(
        stored.filter(~Q(state=Release.State.GOOD), created_at__gt=oldest_unproved).values_list("pk", flat=True)
    )
    in_use: set[str] = set()
    for project in Project.objects.all():
        good = stored.filter(project=project, state=Release.State.GOOD, created_at__gt=oldest)
        kept |= set(good.values_list("pk", flat=True)[: project.keep_releases])
        for seen in recorded(project).values():
            in_use |= seen.needed
    return [release for release in stored.order_by("id") if release.pk not in kept and release.version not in in_use]


def prune(*, dry_run: bool = False) -> list[Release]:
    """Delete the archives that may go; the rows stay, as the record of what was built. Gives the releases.

    Raises `archives.StoreError`; what was deleted until then is recorded as deleted, the rest as stored.
    """
    gone = []
    for release in superfluous():
        if not dry_run:
            names = {"manifest": str(release.manifest.name or ""), "archive": str(release.archive.name)}
            unused = Release.objects.exclude(deployments__in=Deployment.objects.active())
            if not unused.filter(pk=release.pk, archive=names["archive"]).update(archive="", manifest=""):
                continue  # somebody else was faster, or needs it now
            try:
                _delete(release.archive.storage, names)
            except archives.StoreError:
                Release.objects.filter(pk=release.pk).update(**names)  # what is left of them goes the next time
                raise
        gone.append(release)
    return gone


def _delete(storage: Storage, names: dict[str, str]) -> None:
    """Delete the files ``names`` from ``storage`` and their names from ``names``, one by one."""
    for kind, name in names.items():
        if name:
            with archives.explained():
                storage.delete(name)
            names[kind] = ""
