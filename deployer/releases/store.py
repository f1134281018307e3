"""The store of releases: how they come in, which archives may go, how much room they take."""

import contextlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage, default_storage
from django.db.models import Q, Sum
from django.utils import timezone

from deployer.database import insist
from deployer.models import Deployment, Release
from deployer.releases import archives
from deployer.releases.contents import Contents, check_archive
from deployer.releases.versions import recorded
from projects.models import Project


def disk_use(project: Project | None = None) -> int:
    """Bytes of the archives that are stored, of one project or of all."""
    stored = Release.objects.stored()
    return (stored.filter(project=project) if project else stored).aggregate(size=Sum("size"))["size"] or 0


def need_store() -> None:
    """Ask the store for something, as saving a release will. Raises `archives.StoreError` if it cannot be used."""
    with archives.explained():
        default_storage.exists("deployer")


def store(release: Release, tar: Path, accept: Callable[[Contents], None] | None = None) -> None:
    """Check and compress the plain archive ``tar`` and save ``release`` with it and its manifest.

    The compressed one is made beside ``tar``. ``accept`` may refuse what is in it by raising an error. Raises
    `UnsafeArchiveError` and `archives.StoreError`.
    """
    contents = check_archive(tar)
    if accept is not None:
        accept(contents)
    keep(release, tar, contents)


def keep(release: Release, tar: Path, contents: Contents) -> None:
    """As `store`, of an archive whose ``contents`` are known."""
    packed = archives.compress(tar, tar.with_suffix(".tar.zst"))
    release.size, release.sha256 = packed.size, packed.stream.sha256
    release.file_count, release.unpacked_size = contents.files, contents.size
    with archives.explained():
        with packed.path.open("rb") as file:
            release.archive.save(f"{release.version}.tar.zst", File(file), save=False)
        archives.remember(release)
        release.manifest.save(
            archives.manifest_name(release, contents.manifest), ContentFile(contents.manifest), save=False
        )
    insist(release.save)


def unneeded() -> list[Release]:
    """The stored releases that can be deleted.

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
    """Delete the archives that are no longer needed; the rows stay, as a record. Gives the releases.

    Raises `archives.StoreError`; what was deleted until then is recorded as deleted, the rest as stored.
    """
    gone = []
    for release in unneeded():
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


def forget(release: Release) -> None:
    """Delete a release with what is stored of it. Raises `archives.StoreError`: then it can be forgotten again."""
    names = {"manifest": str(release.manifest.name or ""), "archive": str(release.archive.name or "")}
    _delete(release.archive.storage, names)
    release.delete()


def _delete(storage: Storage, names: dict[str, str]) -> None:
    """Delete the files ``names`` from ``storage`` and their names from ``names``, one by one."""
    for kind, name in names.items():
        if name:
            with archives.explained():
                storage.delete(name)
            if archives.digest_in(name):  # it has a folder of its own
                with contextlib.suppress(OSError, NotImplementedError):
                    Path(storage.path(name)).parent.rmdir()
            names[kind] = ""
