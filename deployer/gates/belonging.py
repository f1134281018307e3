"""A project belongs to its groups: where it may be launched, asked at the launch and again at the turn.

One that belongs to none may be launched to every group of its environment.
"""

from collections.abc import Collection, Sequence

from django.utils.translation import gettext as _

from deployer.models import Standing
from projects.models import Project
from servers.models import Server, ServerGroup


def elsewhere(project: Project, groups: Sequence[ServerGroup]) -> list[ServerGroup]:
    """Those of ``groups`` that are not the project's own."""
    own = {*project.server_groups.values_list("pk", flat=True)}
    return [group for group in groups if own and group.pk not in own]


def refusal_elsewhere(
    project: Project, groups: Sequence[ServerGroup], servers: Collection[int], *, is_meant: bool, is_again: bool
) -> str:
    """Why ``project`` is not launched to ``servers`` of these groups; empty where it may be.

    ``is_meant``: whoever launches it has confirmed that some groups are not its own. ``is_again``: it is a retry or a
    rollback, which goes wherever the project was deployed before.
    """
    strange = elsewhere(project, groups)
    if not strange or (project.may_launch_elsewhere and is_meant):
        return ""
    if is_again and _has_been_on(project, servers):
        return ""
    words = {"project": project, "groups": ", ".join(f"“{group}”" for group in strange)}
    if project.may_launch_elsewhere:
        told = _(
            "%(groups)s: none of the groups of project “%(project)s”. Confirm that it is to be launched elsewhere: by "
            "the tick on the page, by --elsewhere, or by “elsewhere” in the API."
        )
    else:
        told = _(
            "%(groups)s: none of the groups of project “%(project)s”, and it may not be launched elsewhere. Choose "
            "among its own groups: %(own)s. Or change where it belongs on its page."
        )
        words["own"] = ", ".join(map(str, project.server_groups.all()))
    return told % words


def _has_been_on(project: Project, servers: Collection[int]) -> bool:
    """Whether it was deployed before to all of ``servers`` that are in none of its groups."""
    own = Server.objects.filter(groups__projects=project)
    away = Server.objects.filter(pk__in=servers).exclude(pk__in=own.values("pk"))
    return not away.exclude(pk__in=Standing.objects.filter(project=project).values("server")).exists()
