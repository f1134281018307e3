"""Has staging proved this very archive? By what deployments left there and what looks have seen since."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deployer.models import Release, Standing, Target
from projects.commands.proof import Proof as ProcessProof
from projects.models import Project
from servers.models import Environment

#: A look at a server that is older than this says nothing of now.
FRESH = timedelta(minutes=90)


@dataclass(frozen=True)
class Fact:
    """One thing that has to be true, and whether it is."""

    is_true: bool
    sentence: str


@dataclass(frozen=True)
class Proof:
    """What staging has shown of an archive: it ``is_given`` where every fact is true."""

    facts: tuple[Fact, ...]

    @property
    def is_given(self) -> bool:
        """Whether it is enough."""
        return bool(self.facts) and all(fact.is_true for fact in self.facts)

    @property
    def sentence(self) -> str:
        """The first fact that is missing; else the last of all."""
        missing = (fact.sentence for fact in self.facts if not fact.is_true)
        return next(missing, self.facts[-1].sentence if self.facts else "")


def proof_of(release: Release | None, project: Project, hours: int, now: datetime | None = None) -> Proof:
    """What the staging projects of the same repository have shown of ``release``, the best of them."""
    moment = now or timezone.now()
    if release is None or not release.sha256:
        return Proof((Fact(False, _("There is no archive yet: launch the release that staging has proved.")),))
    found = [
        Proof(tuple(_facts(staging, standings, versions, hours, moment)))
        for staging, (standings, versions) in _places_of(release, project).items()
    ]
    if not found:
        return Proof((Fact(False, _("Release %s does not run in staging.") % release),))
    return max(found, key=lambda proof: (proof.is_given, sum(fact.is_true for fact in proof.facts)))


def _places_of(release: Release, project: Project) -> "dict[Project, tuple[list[Standing], set[str]]]":
    """The staging projects with this archive on some server: all of their active servers, and what it is called."""
    same = Release.objects.of_same_code(project).filter(sha256=release.sha256)
    versions = {*same.values_list("version", flat=True)}
    own = Q(pk__in={release.project_id, *same.values_list("project", flat=True)})
    of_same_code = own | Q(git_url=project.git_url) if project.git_url else own
    stagings = Project.objects.current().filter(of_same_code, environment=Environment.STAGING)
    found: dict[Project, list[Standing]] = {}
    rows = Standing.objects.filter(project__in=stagings, server__is_active=True).order_by("server__name")
    for standing in rows.select_related("project", "server", "sighting", "last", "proved"):
        found.setdefault(standing.project, []).append(standing)
    return {
        staging: (standings, versions)
        for staging, standings in found.items()
        if any(standing.release in versions for standing in standings)
    }


def _facts(
    staging: Project, standings: list[Standing], versions: set[str], hours: int, now: datetime
) -> Iterator[Fact]:
    others = [standing.server.name for standing in standings if standing.release not in versions]
    words = {"project": staging, "servers": ", ".join(others), "number": len(standings)}
    everywhere = ngettext(
        "%(project)s: this archive is on its %(number)d server.",
        "%(project)s: this archive is on all of its %(number)d servers.",
        len(standings),
    )
    yield Fact(not others, (_("%(project)s: another release is on %(servers)s.") if others else everywhere) % words)
    unproved = [standing.server.name for standing in standings if not is_proved(standing.last, standing.proved)]
    yield _about(unproved, _("Each was proved, and its checks were green."), _("Not proved on %s."))
    restless = [standing.server.name for standing in standings if standing.is_outdated or standing.drift]
    yield _about(restless, _("No process was restarted since then."), _("Not as it was left on %s."))
    unseen = [standing.server.name for standing in standings if not _is_seen(standing, now)]
    yield _about(unseen, _("Each was seen so just now."), _("Not seen just now on %s: look at it again."))
    changed = [standing.changed_at for standing in standings if standing.changed_at is not None]
    ran = now - max(changed) if len(changed) == len(standings) else timedelta()
    yield Fact(
        ran >= timedelta(hours=hours),
        _("It has run for %(ran)s of %(hours)d h.")
        % {"ran": _("%(hours)d h %(minutes)d min") % _clock(ran), "hours": hours},
    )


def _about(names: list[str], good: str, bad: str) -> Fact:
    return Fact(not names, bad % ", ".join(names) if names else good)


def _clock(span: timedelta) -> dict[str, int]:
    minutes = max(int(span.total_seconds()) // 60, 0)
    return {"hours": minutes // 60, "minutes": minutes % 60}


def is_proved(last: Target | None, proved: Target | None) -> bool:
    """Whether the deployment that last changed a server went well there, and knows who each service is since then."""
    if last is None or proved is None or last.status != Target.Status.SUCCESS:
        return False
    return last.pk == proved.pk and all(it.after for it in ProcessProof.from_json(proved.proof).each)


def _is_seen(standing: Standing, now: datetime) -> bool:
    seen = standing.sighting
    if seen is None or seen.problem or not seen.service:
        return False
    return seen.seen_at is not None and seen.seen_at >= now - FRESH
