"""A launch that may have to wait is of one commit: what is approved on Monday is not Tuesday's code."""

from typing import NamedTuple

from django.utils.translation import gettext as _

from deployer.repositories.mirror import fetch, mirror_of
from projects.commands import git
from projects.models import Project
from servers.errors import NotReadyError


class Pinned(NamedTuple):
    """The commit that a name leads to, and its subject."""

    commit: str
    subject: str


def pin(project: Project, name: str) -> Pinned:
    """The commit that a branch, a tag or a commit leads to now, while somebody waits.

    Raises a `ShellError` that explains itself where the repository cannot be fetched or has no such name.
    """
    fetch(project)
    return known(project, name)


def known(project: Project, name: str) -> Pinned:
    """The same, by what was fetched before; raises the same where nothing was."""
    with mirror_of(project) as mirror:
        code, told, _said = mirror.read(git.outline(str(mirror.path), name, mirror.env))
        if code:
            missing = _("“%s” was not found in the repository") % name
            raise NotReadyError(missing, _("there is no branch, tag or commit with that name"), _("Push it first."))
        seen = git.read_outline(told)
    return Pinned(seen.commit, seen.subject)


def is_contained(project: Project, older: str, newer: str) -> bool:
    """Whether ``older`` is ``newer`` or on the way to it, as far as is known on this machine."""
    if older == newer:
        return True
    if not project.git_url:
        return False
    with mirror_of(project) as mirror:
        return mirror.fetched_at is not None and mirror.contains(newer, older)
