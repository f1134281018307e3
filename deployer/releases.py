"""The store of releases: what the servers have of it, which archives may go, how much room they take."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.db.models import F, Max, Q, QuerySet, Sum
from django.utils import timezone

from deployer import archives
from deployer.contents import check_archive
from deployer.database import insist
from deployer.models import Deployment, Release, Target
from projects.models import Project


def disk_use(project: Project | None = None) -> int:
    """Bytes of the archives that are stored, of one project or of all."""
    stored = Release.objects.stored()
    return (stored.filter(project=project) if project else stored).aggregate(size=Sum("size"))["size"] or 0


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
    """What a server had when a deployment last touched it: the versions that were live then and before."""

    live: str
    previous: str


def recorded(project: Project) -> dict[int, Recorded]:
    """What each server, by its id, was last seen with; as the server itself said before and after a switch."""
    return recorded_in([project]).get(project.pk, {})


def recorded_in(projects: Iterable[Project]) -> dict[int, dict[int, Recorded]]:
    """The same of several projects, by their ids."""
    moved = Target.objects.filter(deployment__project__in=projects, server__isnull=False).exclude(release_after="")
    found: dict[int, dict[int, Recorded]] = {}
    for project, server, after, before in newest_of(moved, "release_after", "release_before"):
        found.setdefault(project, {})[server] = Recorded(after, before if before != after else "")
    # A restart changes neither: what was previous before it still is.
    for project, server, before in newest_of(moved.exclude(release_before=F("release_after")), "release_before"):
        found[project][server] = found[project][server]._replace(previous=before)
    return found


def newest_of(targets: QuerySet[Target], *columns: str) -> Iterator[tuple[Any, ...]]:
    """Of the newest of ``targets`` of each project on each server: the ids of both, and ``columns``."""
    newest = targets.order_by().values("deployment__project", "server").annotate(newest=Max("id")).values("newest")
    rows = Target.objects.filter(pk__in=newest).values_list("deployment__project", "server", *columns)
    return rows.iterator()


def previous_on(server_id: int, project: Project) -> str:
    """The version that was live on a server before the one that is live now; empty where none is on record."""
    rows = Target.objects.filter(deployment__project=project, server=server_id).exclude(release_after="")
    moves = rows.exclude(release_before=F("release_after")).order_by("-id")
    return moves.values_list("release_before", flat=True).first() or ""


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
    projects = list(Project.objects.all())
    for project in projects:
        good = stored.filter(project=project, state=Release.State.GOOD, created_at__gt=oldest)
        kept |= set(good.values_list("pk", flat=True)[: project.keep_releases])
    for servers in recorded_in(projects).values():
        in_use.update(version for seen in servers.values() for version in seen)
    return [release for release in stored.order_by("id") if release.pk not in kept and release.version not in in_use]


def prune(*, dry_run: bool = False) -> list[Release]:
    """Delete the archives that may go; the rows stay, as the record of what was built. Gives the releases.

    Raises `archives.StoreError`; what was deleted until then is recorded as deleted.
    """
    gone = []
    for release in superfluous():
        if not dry_run:
            names, storage = (str(release.archive.name), str(release.manifest.name)), release.archive.storage
            unused = Release.objects.exclude(deployments__in=Deployment.objects.active())
            if not unused.filter(pk=release.pk, archive=names[0]).update(archive="", manifest=""):
                continue  # somebody else was faster, or needs it now
            for name in filter(None, names):
                with archives.explained():
                    storage.delete(name)
        gone.append(release)
    return gone
