"""The room for releases on the disk of this machine, and what the packages of one project may take of it."""

import os

from django.conf import settings
from django.db.models import Sum
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from deployer.models import Release
from deployer.releases.contents import UnsafeArchiveError, no_room
from projects.models import Project


def need_room(project: Project, size: int) -> None:
    """Refuse a package of ``size`` bytes that this machine, or what the project may store, has no room for.

    It is written here unpacked and once more compressed. Raises `UnsafeArchiveError`.
    """
    if not has_room(2 * size):
        raise no_room()
    stored = Release.objects.stored().filter(project=project, origin=Release.Origin.UPLOADED)
    taken = stored.aggregate(size=Sum("size"))["size"] or 0
    if taken + size > settings.DEPLOYER_PACKAGES_MAX_MB * 1_000_000:
        raise UnsafeArchiveError(
            _("The package was not accepted"),
            _("the stored packages of “%(project)s” take %(taken)s, and with it more than %(most)d MB")
            % {"project": project, "taken": filesizeformat(taken), "most": settings.DEPLOYER_PACKAGES_MAX_MB},
            _("Keep fewer releases in the project and run “deployer prune”, or raise DEPLOYER_PACKAGES_MAX_MB."),
        )


def has_room(size: int) -> bool:
    """Whether the data folder's disk can take ``size`` bytes and keep free what it has to."""
    disk = os.statvfs(settings.DATA_DIR)
    return disk.f_bavail * disk.f_frsize >= size + settings.DEPLOYER_KEEP_FREE_MB * 1_000_000
