"""Who a service is, and the proof that a restart replaced it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from django.utils.translation import gettext as _

from projects.commands.service import MOMENT, Survey, find_processes
from servers.sentences import sentences


class Verdict(StrEnum):
    """What became of a service."""

    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    DEAD = "dead"
    CRASH_LOOPING = "crash-looping"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Identity:
    """One process of a service, or the main process of its systemd unit.

    A process is known by ``boot``, ``pid`` and ``start`` (in ticks since boot), a unit by its ``invocation``.
    ``since`` is the start by the server's clock, in UTC; ``folder`` is where it works, where that was asked, and
    ``old`` the release that this folder belongs to, unless that is the live one.
    """

    pid: int
    since: str = ""
    command: str = ""
    parent: int | None = None
    start: int | None = None
    boot: str | None = None
    invocation: str | None = None
    folder: str | None = None
    old: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """The same for two identities if they are of one process."""
        return (self.invocation, self.boot, self.pid, self.start)

    @property
    def started_at(self) -> datetime | None:
        """The moment of its start, by the server's clock; None where it is not known."""
        try:
            return datetime.strptime(self.since, MOMENT).replace(tzinfo=UTC)
        except ValueError:
            return None

    def to_json(self) -> dict[str, Any]:
        """The form that is stored; what does not apply is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `to_json` gave."""
        return cls(**{field.name: data[field.name] for field in fields(cls) if field.name in data})


Service = Sequence[Identity]


def to_json(service: Service) -> list[dict[str, Any]]:
    """A service as it is stored."""
    return [identity.to_json() for identity in service]


def from_json(rows: Sequence[Mapping[str, Any]]) -> tuple[Identity, ...]:
    """Read back what `to_json` gave."""
    return tuple(Identity.from_json(row) for row in rows)


def identify(survey: Survey, name: str, *, derived: bool, unit: str = "") -> tuple[Identity, ...]:
    """The identity of the service: the main process of a systemd unit, else every process that matches."""
    if unit:
        facts = survey.units.get(unit, {})
        main = int(facts.get("MainPID", "0") or 0)
        if facts.get("ActiveState") not in {"active", "reloading"}:
            return ()
        since = next((survey.since(process) for process in survey.processes if process.pid == main), "")
        return (Identity(main, since, unit, invocation=facts.get("InvocationID", "")),)
    return tuple(
        Identity(process.pid, survey.since(process), process.command[:300], process.parent, process.start, survey.boot)
        for process in find_processes(survey, name, derived=derived)
    )


def verdict(before: Service, after: Service, *, named: bool) -> Verdict:
    """replaced, unchanged (an old process still runs), dead (named and not running) or unknown.

    A parent that survives while its children are new (a master with fresh workers) has not been replaced.
    """
    if not after:
        return Verdict.DEAD if named or before else Verdict.UNKNOWN
    return Verdict.UNCHANGED if same_service(before, after) else Verdict.REPLACED


def same_service(first: Service, second: Service) -> bool:
    """Whether at least one process of ``first`` is still there: short-lived helpers may come and go."""
    return bool(_keys(first) & _keys(second))


def _keys(service: Service) -> set[tuple[object, ...]]:
    return {identity.key for identity in service}


@dataclass(frozen=True)
class Proof:
    """The evidence that a restart replaced a service, or did not.

    ``before`` is known before the script is run, all else when the service was asked again: ``name`` is the unit or
    the words by which it was found, ``reloads`` says that being unchanged is right. ``undone`` is who it was before
    the server was rolled back. ``told`` is the sentence as it was told then.
    """

    before: tuple[Identity, ...] = ()
    after: tuple[Identity, ...] | None = None
    verdict: str = ""
    name: str | None = None
    reloads: bool = False
    told: str = ""
    undone: tuple[Identity, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The form that a server of a deployment stores: what is not known yet is left out."""
        data: dict[str, Any] = {"before": to_json(self.before)}
        if self.after is not None:
            data |= {
                "verdict": str(self.verdict),
                "name": self.name,
                "after": to_json(self.after),
                "reloads": self.reloads,
                "sentence": self.told,
            }
        if self.undone is not None:
            data["undone"] = to_json(self.undone)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `to_json` gave; earlier versions kept the sentence and no more."""
        return cls(
            before=from_json(data.get("before", ())),
            after=from_json(data["after"]) if "after" in data else None,
            verdict=str(data.get("verdict", "")),
            name=data.get("name"),
            reloads=bool(data.get("reloads")),
            told=str(data.get("sentence", "")),
            undone=from_json(data["undone"]) if "undone" in data else None,
        )

    def as_told(self) -> Self:
        """This proof with its sentence in the language of the moment."""
        return replace(self, told=self.in_words)

    @property
    def in_words(self) -> str:
        """The proof in the language of its reader; as it was told then where it does not say enough."""
        if self.name is None:
            return self.told
        reloads = _("This is expected: the script only reloads.") if self.reloads else ""
        return sentences(self._told_now(), reloads)

    def _told_now(self) -> str:
        before, after = self.before, self.after or ()
        words = {"name": self.name, "before": _listed(before), "after": _listed(after)}
        if self.verdict == Verdict.REPLACED and not before:
            return _("%(after)s was started; nothing matched “%(name)s” before.") % words
        if self.verdict == Verdict.REPLACED:
            return _("%(before)s was replaced by %(after)s.") % words
        if self.verdict == Verdict.UNCHANGED:
            still = [identity for identity in after if identity.key in _keys(before)]
            return _("%s still runs: it was not replaced.") % _listed(still)
        if self.verdict == Verdict.CRASH_LOOPING:
            return _("“%(name)s” keeps restarting; it is now %(after)s.") % words
        if self.verdict == Verdict.DEAD:
            return _("No process matches “%s” after the restart.") % self.name
        return _("No process matches “%s”, neither before nor after the restart.") % self.name


def _listed(service: Service) -> str:
    shown = ", ".join(
        _("pid %(pid)s since %(since)s") % {"pid": identity.pid, "since": identity.since} for identity in service[:4]
    )
    return shown + (f" (+{len(service) - 4})" if len(service) > 4 else "")


def proof_in_words(data: Mapping[str, Any]) -> str:
    """A stored proof in the language of its reader."""
    return Proof.from_json(data).in_words
