"""How projects stand on servers: what deployments left there, kept for lists that show hundreds of them."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar

from django.db import connection, models
from django.utils.translation import gettext as _

from deployer.models.happenings import drift_found
from projects.commands import proof
from projects.commands.proof import Proof, Service
from projects.models import Project
from servers.models import Server

#: Servers of deployments that one statement renews.
_AT_ONCE = 500
#: By a key of a stored proof, in the words of each database.
_HAS = {"sqlite": "json_type(t.proof, '$.{key}') IS NOT NULL", "postgresql": "jsonb_exists(t.proof, '{key}')"}
#: The newest server of a deployment of the pair that meets a condition, by the index of a server's deployments.
_NEWEST = """(
    SELECT {what} FROM deployer_target t JOIN deployer_deployment d ON d.id = t.deployment_id
    WHERE t.server_id = pair.server_id AND d.project_id = pair.project_id AND {condition} ORDER BY t.id DESC LIMIT 1
)"""
_RENEW = """\
INSERT INTO deployer_standing
    (project_id, server_id, release, changed_at, last_id, proved_id, sighting_id, differs, since, renewed_at)
SELECT pair.project_id, pair.server_id, coalesce({release}, ''), {changed}, {last}, {proved},
    (SELECT s.id FROM deployer_sighting s WHERE s.project_id = pair.project_id AND s.server_id = pair.server_id),
    {no}, '', {now}
FROM (
    SELECT DISTINCT d.project_id, t.server_id
    FROM deployer_target t JOIN deployer_deployment d ON d.id = t.deployment_id
    WHERE t.id IN ({ids}) AND t.server_id IS NOT NULL AND t.started_at IS NOT NULL
) pair WHERE true
ON CONFLICT (project_id, server_id) DO UPDATE SET
    release = excluded.release, changed_at = excluded.changed_at, last_id = excluded.last_id,
    proved_id = excluded.proved_id, sighting_id = excluded.sighting_id, renewed_at = excluded.renewed_at
RETURNING id"""
#: Gives a pair of project and server, if it has a standing, what was last seen of it.
_SEEN = """\
UPDATE deployer_standing SET renewed_at = {now}, sighting_id = (
    SELECT s.id FROM deployer_sighting s
    WHERE s.project_id = deployer_standing.project_id AND s.server_id = deployer_standing.server_id
) WHERE project_id = %s AND server_id = %s RETURNING id"""
_JUDGED = "UPDATE deployer_standing SET differs = %s, since = %s WHERE id = %s"
#: The database's clock, in the words of each: as `Now` tells it.
_NOW = {
    "sqlite": "REPLACE(STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW') || '000', '.000000', '')",
    "postgresql": "STATEMENT_TIMESTAMP()",
}
#: What a standing is judged by: only where it was seen since it was last changed.
_EVIDENCE = """\
SELECT standing.id, standing.release, standing.differs, standing.since, seen.release, seen.is_lost, seen.processes,
    target.proof, seen.files
FROM deployer_standing standing
JOIN deployer_sighting seen ON seen.id = standing.sighting_id
LEFT JOIN deployer_target target ON target.id = standing.proved_id
WHERE standing.id IN ({ids}) AND seen.seen_at IS NOT NULL
    AND (standing.changed_at IS NULL OR seen.seen_at >= standing.changed_at)"""


@cache
def _statement(vendor: str) -> str:
    """Renews the pairs of project and server that servers of deployments belong to."""
    has = _HAS[vendor]
    undone = has.replace("{key}", "undone")
    moment = f"CASE WHEN {undone} THEN coalesce(t.finished_at, t.begun_at) ELSE t.begun_at END"
    parts = {
        "release": _NEWEST.format(what="t.release_after", condition="t.release_after <> ''"),
        "changed": _NEWEST.format(what=moment, condition="t.begun_at IS NOT NULL"),
        "last": _NEWEST.format(what="t.id", condition="t.begun_at IS NOT NULL AND t.status <> 'skipped'"),
        "proved": _NEWEST.format(what="t.id", condition=has.replace("{key}", "before")),
        "no": "0" if vendor == "sqlite" else "false",
        "now": _NOW[vendor],
    }
    return _RENEW.format(ids="{ids}", **parts)


class StandingQuerySet(models.QuerySet["Standing"]):
    """Standings by what is to be said of them."""

    def with_state(self) -> Any:
        """Each with ``is_different`` (seen to be so), ``is_wrong`` (that, or the last look failed), ``is_bad`` (one of
        these, or the last deployment did not end well) and ``is_unseen`` (not seen since it was last changed); 1 or 0,
        to be counted.
        """
        changed = models.F("changed_at")
        seen = models.Q(sighting__seen_at__isnull=False) & (
            models.Q(changed_at=None) | models.Q(sighting__seen_at__gte=changed)
        )
        failed = models.Q(sighting__problem__gt="") & (
            models.Q(changed_at=None) | models.Q(sighting__failed_at=None) | models.Q(sighting__failed_at__gte=changed)
        )
        different = seen & models.Q(differs=True)
        wrong = different | failed
        troubled = models.Q(last__status__in=TROUBLE) & (seen | failed | models.Q(sighting=None))
        return self.annotate(
            is_different=_one_if(different),
            is_wrong=_one_if(wrong),
            is_bad=_one_if(wrong | troubled),
            is_unseen=1 - _one_if(seen),
        )

    def whole(self) -> "StandingQuerySet":
        """With all that is told of each, read at once."""
        own = Project.server_groups.through.objects.filter(project=models.OuterRef("project"))
        member = own.filter(servergroup__servers=models.OuterRef("server"))
        is_away = models.ExpressionWrapper(
            models.Exists(own) & ~models.Exists(member), output_field=models.BooleanField()
        )
        return (
            self.annotate(away=is_away)
            .select_related("server", "sighting", "last__deployment__created_by", "proved")
            .only(
                *("project_id", "release", "changed_at", "differs", "since", "server__name", "server__is_active"),
                *("sighting__project_id", "sighting__server_id", "sighting__release", "sighting__is_lost"),
                *("sighting__processes", "sighting__files", "sighting__problem", "sighting__seen_at"),
                "sighting__failed_at",
                *("last__deployment_id", "last__status", "last__error", "last__finished_at", "proved__proof"),
                *("last__deployment__deployment_type", "last__deployment__launched_for"),
                "last__deployment__created_by__username",
            )
        )


def _one_if(condition: models.Q) -> models.Case:
    return models.Case(models.When(condition, then=1), default=0, output_field=models.IntegerField())


StandingManager = models.Manager.from_queryset(StandingQuerySet)

#: The ends of a deployment on a server that are told of it. (`deployer.models.deployment` says what they are.)
TROUBLE = ("failed", "unchanged", "unknown", "cancelled")


class Standing(models.Model):
    """A project on a server that it was ever deployed to: what the deployments of all time left there.

    It can be read from all of them; this is that answer, kept. ``release`` is the version that was left, ``last`` the
    last deployment that changed the server, ``changed_at`` when that was, ``proved`` the last one that knew who the
    service was before. ``sighting`` is what was last seen, ``differs`` whether that is something else than was left,
    ``since`` the start of the youngest process that was seen, as the server said it. Where the server was changed
    since it was seen, neither holds. Whatever writes a `Target` or a `Sighting` renews the standings that it belongs
    to; ``renewed_at`` says when that was.
    """

    objects = StandingManager()

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="standings", db_index=False)
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="standings")
    release = models.CharField(max_length=300, blank=True)
    changed_at = models.DateTimeField(null=True)
    last = models.ForeignKey("deployer.Target", on_delete=models.SET_NULL, null=True, related_name="+")
    proved = models.ForeignKey("deployer.Target", on_delete=models.SET_NULL, null=True, related_name="+")
    sighting = models.ForeignKey("deployer.Sighting", on_delete=models.SET_NULL, null=True, related_name="+")
    differs = models.BooleanField(default=False)
    since = models.CharField(max_length=40, blank=True)
    renewed_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering: ClassVar = ["project", "server"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["project", "server"], name="one_standing_of_a_project_on_a_server"),
        ]

    def __str__(self) -> str:
        return f"{self.project}: {self.server}"

    @property
    def is_away(self) -> bool:
        """Whether the server is in none of the groups that the project has; asked for by `StandingQuerySet.whole`."""
        return bool(vars(self).get("away"))

    @property
    def is_outdated(self) -> bool:
        """Whether the server was changed since it was seen."""
        return self.sighting is not None and self._is_before_change(self.sighting.seen_at)

    @property
    def failure(self) -> str:
        """Why the last look failed; empty where it did not, or the server was changed since then."""
        seen = self.sighting
        return "" if seen is None or self._is_before_change(seen.failed_at) else seen.problem

    def _is_before_change(self, moment: datetime | None) -> bool:
        return moment is not None and self.changed_at is not None and moment < self.changed_at

    @property
    def drift(self) -> list[str]:
        """Sentences: how what was seen differs from what was left. Empty where nothing was seen since the change."""
        seen = self.sighting
        if seen is None or seen.seen_at is None or self.is_outdated:
            return []
        of_service = differences(self.release, seen.release, seen.is_lost, seen.service, _proved(self.proved))
        return [*of_service, *differing_files(seen.files)]


def renew_of_targets(ids: Collection[int]) -> None:
    """Renew the standings that these servers of deployments belong to."""
    wanted = list(ids)
    for begin in range(0, len(wanted), _AT_ONCE):
        some = wanted[begin : begin + _AT_ONCE]
        with connection.cursor() as cursor:
            cursor.execute(_statement(connection.vendor).replace("{ids}", _places(some)), some)
            _judge(cursor, [pk for (pk,) in cursor.fetchall()])


def renew_of_sightings(pairs: Iterable[tuple[int, int]]) -> None:
    """Renew the standings of what was just seen: by the numbers of projects and servers."""
    with connection.cursor() as cursor:
        for pair in pairs:
            cursor.execute(_SEEN.format(now=_NOW[connection.vendor]), pair)
            _judge(cursor, [pk for (pk,) in cursor.fetchall()])


def _judge(cursor: Any, ids: Sequence[int]) -> None:
    """Say of each whether what was seen differs from what was left."""
    if not ids:
        return
    cursor.execute(_EVIDENCE.format(ids=_places(ids)), ids)
    for pk, left, differed, since, release, is_lost, processes, proved, files in cursor.fetchall():
        service = proof.from_json(_value(processes))
        told = Proof.from_json(_value(proved)) if proved else None
        differs = bool(differences(left, release, bool(is_lost), service, _known(told)) or _value(files))
        youngest = max((process.since for process in service), default="")[:40]
        if (differs, youngest) != (bool(differed), since):
            cursor.execute(_JUDGED, [differs, youngest, pk])
            if differs and not differed:
                drift_found.send_robust(Standing, standing=pk)


def _places(ids: Sequence[int]) -> str:
    return ", ".join(["%s"] * len(ids))


def _value(text: Any) -> Any:
    """A value of a JSON column as a cursor gives it."""
    return json.loads(text) if isinstance(text, str) else text


def _proved(target: Any) -> dict[str, Proof]:
    return _known(Proof.from_json(target.proof)) if target is not None else {}


def _known(told: Proof | None) -> dict[str, Proof]:
    """What was proved of the services when a deployment last verified them, by name; the main one has none.

    Nobody where a restart or a rollback was begun since then and did not come to that: whoever runs is its doing.
    """
    if told is None or told.undone is not None:
        return {}
    main, *others = told.each
    return {"": main, **{it.name or "": it for it in others}}


def differences(left: str, release: str, is_lost: bool, processes: Service, proved: Mapping[str, Proof]) -> list[str]:
    """Sentences: how the ``release`` and the ``processes`` that were seen differ from what was left and ``proved``."""
    found = []
    if left and release != left:
        found.append(
            _("release %(seen)s is live, but deployer left %(left)s") % {"seen": release, "left": left}
            if release
            else _("no release is live, but deployer left %s") % left
        )
    if is_lost:
        found.append(_("current leads to %s, which is not there any more") % (release or "–"))
    for name, told_of in proved.items():
        seen = [process for process in processes if (process.service or "") == name]
        if told := _change_of(told_of, seen):
            found.append(_("%(name)s: %(told)s") % {"name": name, "told": told} if name else told)
    for process in processes:
        if process.old:
            found.append(
                _("pid %(pid)s runs old code, from release %(old)s") % {"pid": process.pid, "old": process.old}
            )
    return found


def _change_of(told: Proof, seen: Service) -> str:
    """What is different of one service; empty where it is the one that was proved, or none was."""
    if told.verdict == proof.Verdict.STOPPED:
        return _("it was stopped, and runs again: %s") % proof.listed(back) if (back := told.back_again(seen)) else ""
    proved = told.after or ()
    if proved and not seen:
        return _("the process is not running")
    if proved and not proof.same_service(proved, seen):
        return _("the process was restarted by somebody else: %s") % max(seen, key=lambda process: process.since)
    return ""


class Drift(StrEnum):
    """How a config file differs from the one that deployer left."""

    CHANGED = "changed"
    GONE = "gone"
    HIDDEN = "hidden"


def differing_files(files: Iterable[Mapping[str, str]]) -> list[str]:
    """Sentences: the config files that are not as deployer left them."""
    words = {
        Drift.CHANGED: _("config file %s was changed by hand"),
        Drift.GONE: _("config file %s was deleted by hand"),
        Drift.HIDDEN: _("config file %s cannot be read any more"),
    }
    return [words[Drift(file["what"])] % file["path"] for file in files]
