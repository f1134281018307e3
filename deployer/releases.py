"""The store of releases: which archives may go, and how much room they take."""

from datetime import timedelta

from django.conf import settings
from django.db.models import Q, Sum
from django.utils import timezone

from deployer.models import Deployment, Release, Target
from projects.models import Project


def disk_use() -> int:
    """Bytes of the archives that are stored."""
    return Release.objects.stored().aggregate(size=Sum("size"))["size"] or 0


def superfluous(project: Project) -> list[Release]:
    """The stored releases of ``project`` that may go.

    The newest ``keep_releases`` good ones stay, unless they are older than DEPLOYER_RELEASE_DAYS; so does a release
    that was not proved good, for DEPLOYER_UNPROVED_DAYS. Whatever their age, what is live or recorded as
    previous on any server stays, and so does what a deployment that has not ended is about to send.
    """
    now = timezone.now()
    oldest = now - timedelta(days=settings.DEPLOYER_RELEASE_DAYS)
    oldest_unproved = now - timedelta(days=settings.DEPLOYER_UNPROVED_DAYS)
    stored = Release.objects.stored().filter(project=project)
    good = stored.filter(state=Release.State.GOOD)
    recent = set(good.filter(created_at__gt=oldest).values_list("pk", flat=True)[: project.keep_releases])
    recent |= set(
        stored.filter(~Q(state=Release.State.GOOD), created_at__gt=oldest_unproved).values_list("pk", flat=True)
    )
    recent |= set(Deployment.objects.active().filter(project=project).values_list("release_id", flat=True))
    return [
        release for release in stored.exclude(version__in=_recorded(project)).order_by("id") if release.pk not in recent
    ]


def _recorded(project: Project) -> set[str]:
    """The versions that are live or previous on a server, as it was last seen by a deployment."""
    newest: dict[int, tuple[str, str]] = {}
    rows = Target.objects.filter(deployment__project=project, server__isnull=False).exclude(release_after="")
    columns = ("server_id", "release_after", "release_before")
    for server, after, before in rows.order_by("id").values_list(*columns).iterator():
        assert server is not None  # noqa: S101 (filtered above)
        known = newest.get(server, ("", ""))
        # A restart changes neither: what was previous before it still is.
        newest[server] = (after, before if before != after else known[1])
    return {version for pair in newest.values() for version in pair if version}


def prune(*, dry_run: bool = False) -> list[Release]:
    """Delete the archives that may go; the rows stay, as the record of what was built. Gives the releases."""
    gone = []
    for project in Project.objects.all():
        for release in superfluous(project):
            if not dry_run:
                name, storage = str(release.archive.name), release.archive.storage
                unused = Release.objects.exclude(deployments__in=Deployment.objects.active())
                if not unused.filter(pk=release.pk, archive=name).update(archive=""):
                    continue  # somebody else was faster, or needs it now
                storage.delete(name)
            gone.append(release)
    return gone
