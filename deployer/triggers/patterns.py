"""Patterns of branches, tags, changed files and names: ``*`` and ``?`` stay within a ``/``, ``!`` takes out.

``**`` between slashes stands for any number of folders, none too.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from deployer.models import Delivery, Webhook

#: What a pattern of tags begins with.
TAGS = "tags/"


def fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether the last of ``patterns`` that ``name`` fits lets it in. With only ``!`` ones all else is in."""
    fitting = [pattern for pattern in patterns if _is_like(name, pattern.removeprefix("!"))]
    if fitting:
        return not fitting[-1].startswith("!")
    return bool(patterns) and all(pattern.startswith("!") for pattern in patterns)


def any_fits(names: Iterable[str], patterns: Sequence[str]) -> bool:
    """Whether one of ``names`` does."""
    return any(fits(name, patterns) for name in names)


def ref_fits(webhook: Webhook, kind: str, ref: str) -> bool:
    """Whether a branch, or a tag, is one that ``webhook`` is for."""
    tags = [pattern.replace(TAGS, "", 1) for pattern in webhook.refs if _is_of_tags(pattern)]
    branches = [pattern for pattern in webhook.refs if not _is_of_tags(pattern)]
    if kind == Delivery.Kind.TAG:
        return fits(ref, tags) if tags else not branches
    if not webhook.refs:
        return ref == webhook.project.default_branch
    is_tag = kind == Delivery.Kind.SUCCESS and bool(tags) and fits(ref, tags)  # of what ran for a tag
    return is_tag or fits(ref, branches)


def _is_of_tags(pattern: str) -> bool:
    return pattern.removeprefix("!").startswith(TAGS)


def _is_like(name: str, pattern: str) -> bool:
    """Part by part; behind a ``**`` that has taken too few of them, one more is tried: no name takes long."""
    parts, wanted = name.split("/"), pattern.split("/")
    at = here = 0
    retry: tuple[int, int] | None = None
    while at < len(parts):
        if here < len(wanted) and wanted[here] == "**":
            here += 1
            retry = (here, at)
        elif here < len(wanted) and _part(wanted[here]).match(parts[at]):
            here, at = here + 1, at + 1
        elif retry is not None:
            here, at = retry[0], retry[1] + 1
            retry = (here, at)
        else:
            return False
    return all(each == "**" for each in wanted[here:])


@lru_cache(maxsize=1000)
def _part(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))
