"""Projects that are one application in several environments, and what each of them could get from the one before."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from deployer.board.overview import Running
from deployer.models import Release
from deployer.repositories.mirror import mirror_of
from projects.models import Project
from servers.models import Environment

#: What names say of an environment: “shop-staging” and “shop” are one application.
_WORDS = frozenset(
    {"dev", "develop", "development", "test", "testing", "qa", "uat"}
    | {"stage", "staging", "stg", "preprod", "preview", "prod", "production", "live"}
)
_CHINESE = re.compile("开发|测试|预发布|预发|生产|正式|环境")
_SEPARATORS = re.compile(r"[\W_]+")
#: Distances that one drawing of the board asks git for, and that are kept: what lies between two commits stays.
_ASKED, _KEPT = 12, 4096
_distances: dict[tuple[str, str, str], int] = {}


class Named(NamedTuple):
    """Of a project what says to which application it belongs."""

    pk: int
    name: str
    environment: str
    git_url: str


@dataclass
class Application:
    """A row of the board. ``name`` is that of its project in the highest environment; ``projects`` are their ids."""

    name: str = ""
    projects: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in Environment.values})

    @property
    def ids(self) -> list[int]:
        """Those of all its projects, by environment."""
        return [pk for ids in self.projects.values() for pk in ids]

    def is_one_of(self, favourites: Collection[int]) -> bool:
        """Whether somebody has a star at one of its projects."""
        return any(pk in favourites for pk in self.ids)


@dataclass(frozen=True)
class Promotion:
    """What a project could get from the one in the environment before: the release that all of its servers run.

    ``behind`` is how many commits that has more; nothing where nobody knows. ``is_stored``: it need not be built again.
    """

    source: Project
    release: Release
    behind: int | None = None

    @property
    def is_stored(self) -> bool:
        """Whether it can be sent as it is."""
        return bool(self.release.archive) and not self.release.is_marked_bad


def stem_of(name: str) -> str:
    """A project's name without what it says of an environment; all of it where nothing else is left."""
    words = [word for word in _SEPARATORS.split(_CHINESE.sub(" ", name.casefold())) if word]
    return "-".join(word for word in words if word not in _WORDS) or name.casefold()


def applications_of(projects: Iterable[Named]) -> list[Application]:
    """Projects of one repository whose names differ by the environment alone are one; in the order of ``projects``."""
    found: dict[tuple[str, str], Application] = {}
    for it in projects:
        application = found.setdefault((it.git_url, stem_of(it.name)), Application())
        application.projects[it.environment].append(it.pk)
        if not application.name or it.environment == Environment.PRODUCTION:
            application.name = it.name
    return list(found.values())


def promotions_of(applications: Iterable[Application], rows: Mapping[int, Running]) -> dict[int, Promotion]:
    """What each of the ``rows`` could get from the environment before it, by project, where it may be launched now.

    That is what the one project there runs on all of its servers, where nothing is wrong or goes on, and where this
    one lacks a commit of it.
    """
    found: dict[int, Promotion] = {}
    for application in applications:
        before: Sequence[int] = ()
        for ids in application.projects.values():
            source = rows.get(before[0]) if len(before) == 1 else None
            release = None if source is None or source.active or source.failed or source.bad else _only(source)
            for row in [rows[pk] for pk in ids if pk in rows and rows[pk].operable and not rows[pk].active]:
                if source is not None and release is not None and _differs(row, release):
                    found[row.project.pk] = Promotion(source.project, release)
            before = ids or before
    _count(found, rows)
    return {pk: promotion for pk, promotion in found.items() if promotion.behind != 0}


def _only(row: Running) -> Release | None:
    """The one release that all servers run, if it is of a commit."""
    releases = [release for _version, release, _servers in row.releases if release is not None and release.commit_hash]
    return releases[0] if len(row.releases) == len(releases) == 1 else None


def _differs(row: Running, release: Release) -> bool:
    return {found.commit_hash if found else "" for _version, found, _servers in row.releases} != {release.commit_hash}


def _count(found: dict[int, Promotion], rows: Mapping[int, Running]) -> None:
    """Ask git how far they are behind, where nobody has asked yet."""
    asked = 0
    for pk, promotion in found.items():
        here, project = _only(rows[pk]), rows[pk].project
        if here is None:
            continue
        pair = (project.git_url, here.commit_hash, promotion.release.commit_hash)
        if pair not in _distances and asked < _ASKED:
            asked += 1
            if len(_distances) >= _KEPT:
                _distances.clear()
            with mirror_of(project) as mirror:
                distance = mirror.distance(*pair[1:]) if mirror.fetched_at is not None else None
            if distance is not None:
                _distances[pair] = distance
        found[pk] = replace(promotion, behind=_distances.get(pair))
