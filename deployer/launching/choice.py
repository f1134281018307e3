"""What of a launch is chosen by name: a release that is stored already, some servers of the groups."""

from collections.abc import Iterable
from dataclasses import replace

from django.utils.translation import gettext as _

from deployer.launching.asked import LaunchRequest, kept_answers
from deployer.launching.rules import LaunchRefusedError, not_of_the_groups
from deployer.models import Deployment, Release
from deployer.releases.versions import recorded
from people.models import User
from projects.models import Project

#: Asks for the release that the servers themselves had before the live one.
PREVIOUS = "previous"


def with_release(request: LaunchRequest, version: str, *, rolls_back: bool = False) -> LaunchRequest:
    """``request`` with a release that is stored already: no clone, no build.

    ``version`` is one of the project's own or of another project of the same repository that the launcher sees, or
    `PREVIOUS`, which is refused where the servers had different ones. ``rolls_back``: the deployment is recorded as one
    that goes back, and keeps the answers of the newest one where it has none of its own.
    """
    if request.keeps_release:
        told = _("A restart-only deployment takes no release: it restarts the one that is there.")
        if not request.is_restart_only:
            told = _("A stop or a start takes no release: it is about the one that is there.")
        raise LaunchRefusedError(told, field="release")
    if request.branch:
        raise LaunchRefusedError(_("Choose a branch or a release, not both."), field="release")
    if version == PREVIOUS:
        version = _previous(request)
    release = stored(request.project, version, request.created_by)
    latest = Deployment.objects.ended().filter(project=request.project).first() if rolls_back else None
    kept = kept_answers(latest) if latest else {}
    answers = {**kept, **request.answers}
    return replace(request, release=release, branch=release.commit_hash, rollback_from=latest, answers=answers)


def on_servers(request: LaunchRequest, names: Iterable[str]) -> LaunchRequest:
    """``request`` for those servers of its groups alone; for all of them where none is named."""
    wanted = list(dict.fromkeys(names)) if request.groups else []  # without groups it is refused for that
    members = {server.name: server.pk for server in request.members}
    if unknown := [name for name in wanted if name not in members]:
        raise not_of_the_groups(unknown, request)
    return replace(request, only=frozenset(members[name] for name in wanted)) if wanted else request


def _previous(request: LaunchRequest) -> str:
    """The version before the live one, on all servers of the groups."""
    seen = recorded(request.project)
    versions = {seen[server.pk].previous for server in request.active if server.pk in seen} - {""}
    if len(versions) != 1:
        raise LaunchRefusedError(
            _("The servers had different releases before (%s): choose which version to go back to.")
            % ", ".join(sorted(versions))
            if versions
            else _("No server of these groups has a previous release on record: choose which version to go back to."),
            field="release",
        )
    return versions.pop()


def stored(project: Project, version: str, launcher: User | None = None) -> Release:
    """The stored release with that version: of those that ``launcher`` sees, if one is named."""
    releases = Release.objects.all() if launcher is None else Release.objects.reached_by(launcher)
    release = releases.deployable_to(project).filter(version=version).first()
    if release is not None:
        return release
    known = releases.filter(version=version).select_related("project").first()
    if known is None:
        listed = ", ".join(releases.deployable_to(project).values_list("version", flat=True)[:10])
        why = _("There is no release “%(version)s”. Stored releases: %(listed)s.")
        raise LaunchRefusedError(why % {"version": version, "listed": listed or _("none")}, field="release")
    if not known.archive:
        raise LaunchRefusedError(
            _("Release %s is no longer stored: deploy its commit, or upload it again.") % version, field="release"
        )
    raise LaunchRefusedError(
        _("Release %(version)s belongs to project “%(theirs)s”, which has another repository than “%(ours)s”.")
        % {"version": version, "theirs": known.project, "ours": project},
        field="release",
    )
