"""The changes of a launch: the commits between the releases that the servers run and would run, from the mirror."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from django.utils.translation import gettext as _

from deployer.models import Deployment, Release, Target
from deployer.releases.versions import newest_of, running_in
from deployer.repositories.mirror import Mirror, mirror_of
from people.models import User
from projects.commands import git
from projects.commands.git import Commit
from projects.models import Project
from servers.models import Server

#: Commits of one list that are shown.
SHOWN = 50


@dataclass(frozen=True)
class Commits:
    """Some commits, the newest first: how many there are, and the first `SHOWN` of them."""

    count: int = 0
    newest: list[Commit] = field(default_factory=list)

    @property
    def more(self) -> int:
        """The number of commits that are not shown."""
        return self.count - len(self.newest)


@dataclass(frozen=True)
class Gap:
    """The changes on servers that run the same release: ``version``, empty where none is on record.

    ``added`` is new there, ``removed`` is there and would be rolled back; ``problem`` says why neither is known.
    ``stays``: the deployment is over, and they have that release still, or again.
    """

    version: str
    servers: list[str]
    added: Commits = field(default_factory=Commits)
    removed: Commits = field(default_factory=Commits)
    problem: str = ""
    stays: bool = False


@dataclass(frozen=True)
class Changes:
    """The changes of launching ``head``. ``left_out`` are the commits of ``branch`` that are not in it.

    ``fetched_at`` is how old this knowledge is; ``problem`` says why there is none.
    """

    branch: str = ""
    head: str = ""
    steps: list[Gap] = field(default_factory=list)
    left_out: Commits = field(default_factory=Commits)
    fetched_at: datetime | None = None
    problem: str = ""


def changes_of_launch(
    project: Project, branch: str, version: str, servers: Collection[int], launcher: User | None = None
) -> Changes:
    """The changes on ``servers`` (ids) of launching a branch (or a tag, or a commit), or the release ``version``.

    If a ``launcher`` is named, it is one that they see.
    """
    releases = Release.objects.all() if launcher is None else Release.objects.reached_by(launcher)
    release = releases.deployable_to(project).filter(version=version).first() if version else None
    if version and release is None:
        return Changes(problem=_("There is no stored release “%s”.") % version)
    seen = running_in([project]).get(project.pk, {})
    live = {server: _Live(seen.get(server, "")) for server in servers}
    return _changes(project, branch or project.default_branch, release, live)


def changes_of_deployment(deployment: Deployment) -> Changes:
    """The changes that a deployment has made, or is about to make, on its servers: from what they ran before it.

    That is the release that it found there. On a server that it has not come to, it is what runs there now, or, once
    it is over, what ran there when it was launched: whatever came later is not its doing.
    """
    release = deployment.release
    if release is None and not deployment.commit_hash:
        return Changes()
    targets = [target for target in deployment.targets.exclude(server=None) if not target.was_left_out]
    before = _before(deployment, targets)
    live = {target.server_id or 0: _Live(before[target], _stays(deployment, target)) for target in targets}
    return _changes(deployment.project, deployment.branch, release, live, deployment.commit_hash)


class _Live(NamedTuple):
    """The version on a server, and whether it stays there although the deployment is over."""

    version: str
    stays: bool = False


def _before(deployment: Deployment, targets: Sequence[Target]) -> dict[Target, str]:
    """The version that each server ran before the deployment."""
    found = {target: target.release_before for target in targets}
    untouched = [target for target in targets if not (target.release_before or target.release_after)]
    if not untouched:
        return found
    if deployment.is_active:
        known = running_in([deployment.project]).get(deployment.project_id, {})
    else:
        earlier = Target.objects.filter(deployment__project=deployment.project_id, deployment__lt=deployment.pk)
        rows = newest_of(earlier.exclude(release_after=""), "release_after")
        known = {server: version for _project, server, version in rows}
    for target in untouched:
        found[target] = target.release_at_launch or known.get(target.server_id or 0, "")
    return found


def _stays(deployment: Deployment, target: Target) -> bool:
    return not deployment.is_active and target.release_after in {"", target.release_before}


def gap_between(mirror: Mirror, base: str, head: str) -> Gap:
    """The commits from one commit to another, both ways; a problem where one of them is not there any more."""
    added, removed = _between(mirror, base, head), _between(mirror, head, base)
    if added is None or removed is None:
        return Gap("", [], problem=_("its commit is no longer in the repository"))
    return Gap("", [], added, removed)


def _changes(
    project: Project, branch: str, release: Release | None, live: "Mapping[int, _Live]", commit: str = ""
) -> Changes:
    """``live``: what is on each server. ``commit`` is what is deployed, if there is no release yet."""
    if release is not None and not release.commit_hash:
        return Changes(problem=_("Release %s was uploaded: its commits are not known here.") % release)
    if not project.git_url:
        return Changes()
    with mirror_of(project) as mirror:
        fetched_at = mirror.fetched_at
        if fetched_at is None:
            return Changes(branch, problem=_("This repository has not been fetched here yet."))
        head = commit or (release.commit_hash if release else mirror.resolve(branch))
        if not head:
            return Changes(
                branch,
                fetched_at=fetched_at,
                problem=_("“%s” was not in the repository when it was last fetched.") % branch,
            )
        steps = [_step(mirror, there, names, head, known) for there, names, known in _by_version(live)]
        left_out = Commits()
        for name in dict.fromkeys((branch, project.default_branch)):  # a tag, or a commit, has nothing beyond itself
            tip = mirror.resolve(name)
            left_out = (_between(mirror, head, tip) if tip else None) or Commits()
            if left_out.count:
                branch = name
                break
        return Changes(branch, head, steps, left_out, fetched_at)


def _by_version(live: "Mapping[int, _Live]") -> Iterable[tuple[_Live, list[str], Release | None]]:
    """Each version with the names of its servers and what is known of it; those where it stays apart."""
    names = dict(Server.objects.filter(pk__in=live).values_list("pk", "name"))
    releases = Release.objects.by_version([there.version for there in live.values()])
    servers: dict[_Live, list[str]] = {}
    for server, there in live.items():
        if server in names:
            servers.setdefault(there, []).append(names[server])
    return [(there, found, releases.get(there.version)) for there, found in sorted(servers.items())]


def _step(mirror: Mirror, there: _Live, servers: list[str], head: str, release: Release | None) -> Gap:
    gap = Gap(there.version, servers, stays=there.stays)
    if not there.version:
        return replace(gap, problem=_("no earlier release is on record"))
    if release is None or not release.commit_hash:
        return replace(gap, problem=_("its commit is not known here"))
    found = gap_between(mirror, release.commit_hash, head)
    return replace(gap, added=found.added, removed=found.removed, problem=found.problem)


def _between(mirror: Mirror, base: str, head: str) -> Commits | None:
    """The commits that ``head`` has and ``base`` has not; nothing where one of them is not there."""
    code, stdout, _stderr = mirror.read(git.history(str(mirror.path), base, head, SHOWN, mirror.env))
    return None if code else Commits(*git.read_history(stdout))
