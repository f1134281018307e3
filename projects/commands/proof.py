"""Who a service is, and the proof that a restart replaced it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pages.times import local_time
from projects.commands.kept import NOT_FOUND
from projects.commands.processes import MOMENT
from projects.commands.services.kind import Does
from servers.sentences import sentences

#: Characters of a command that a sentence shows, and how many processes it names.
SHOWN, LISTED = 80, 4
#: Characters that a project has for a process's name.
WORDS = 200


class Verdict(StrEnum):
    """What became of a service."""

    REPLACED = "replaced"
    RELOADED = "reloaded"
    UNCHANGED = "unchanged"
    DEAD = "dead"
    CRASH_LOOPING = "crash-looping"
    UNKNOWN = "unknown"
    #: Of one that was to be stopped, and of one that was to be started and ran already.
    STOPPED = "stopped"
    STILL_RUNNING = "still-running"
    RUNNING = "running"


@dataclass(frozen=True)
class Identity:
    """One process of a service, or a unit or container without one that is seen (pid 0).

    A process is known by ``boot``, ``pid`` and ``start`` (in ticks since boot), a run of a unit by its ``invocation``.
    ``since`` is the start by the server's clock, in UTC; ``folder`` is where it works, and ``old`` the release that
    this folder belongs to, unless that is the live one. ``program`` is the name of its file, ``user`` the id of its
    user, ``image`` another number once it has executed a program anew. ``around`` is what only starts an application
    or keeps it running, ``inside`` runs from the project's folder, ``loose`` has the name as a part of a word.
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
    program: str = ""
    user: int | None = None
    image: int | None = None
    around: bool | None = None
    inside: bool | None = None
    loose: bool | None = None
    service: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """The same for two identities if they are of one process, or of one run of a unit without any."""
        return (self.boot, self.pid, self.start) if self.start is not None else (self.invocation,)

    @property
    def started_at(self) -> datetime | None:
        """The moment of its start, by the server's clock; None where it is not known."""
        try:
            return datetime.strptime(self.since, MOMENT).replace(tzinfo=UTC)
        except ValueError:
            return None

    @property
    def stem(self) -> str:
        """Its program without the version: `python` for `python3.11`."""
        return stem(self.program)

    @property
    def is_titled(self) -> bool:
        """Whether it has given itself a title: its command begins with another word than its program."""
        return bool(self.command) and stem(base(self.command.split(maxsplit=1)[0])) != self.stem

    @property
    def words(self) -> str:
        """The words by which it would be found: its title, or its program and the file that this runs."""
        if self.is_titled:
            return self.command[:WORDS]
        first, *more = self.command.split()
        file = next((word for word in more if not word.startswith("-")), "")
        return f"{base(first)} {base(file)}".strip()[:WORDS]

    def to_json(self) -> dict[str, Any]:
        """The form that is stored; what does not apply is left out."""
        return {name: value for name in _KEPT if (value := getattr(self, name)) is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `to_json` gave."""
        return cls(**{name: data[name] for name in _KEPT if name in data})

    def __str__(self) -> str:
        """In words: pid, command, folder and start."""
        since = self._since
        program, space, rest = self.command.partition(" ")
        command = f"{base(program) if program.startswith('/') else program}{space}{rest}"
        command = command[:SHOWN] + ("…" if len(command) > SHOWN else "")
        words = {"pid": self.pid, "command": command, "folder": self.folder, "since": since}
        if not self.pid:
            return (_("%(command)s since %(since)s") if since else "%(command)s") % words
        if not command:
            return self.in_short
        if not self.folder:
            return _("pid %(pid)s “%(command)s” since %(since)s") % words
        return _("pid %(pid)s “%(command)s” in %(folder)s since %(since)s") % words

    @property
    def in_short(self) -> str:
        """In words: pid and start alone; a unit without a process by its name."""
        if not self.pid:
            return str(self)
        return _("pid %(pid)s since %(since)s") % {"pid": self.pid, "since": self._since}

    @property
    def _since(self) -> str:
        started = self.started_at
        return local_time(started) if started else self.since


def base(word: str) -> str:
    """The file at the end of a path, or the program that a title begins with."""
    return word.rstrip(":").rpartition("/")[2].removeprefix("-")


def stem(program: str) -> str:
    """A program's name without its version."""
    bare = program.rstrip("0123456789.")
    if bare == program:
        return program
    bare = bare.removesuffix("v")
    return (bare[:-1] if bare.endswith(("-", "_")) else bare) or program


#: What is stored of a process.
_KEPT = tuple(field.name for field in fields(Identity))
Service = Sequence[Identity]


def to_json(service: Service) -> list[dict[str, Any]]:
    """A service as it is stored."""
    return [identity.to_json() for identity in service]


def from_json(rows: Sequence[Mapping[str, Any]]) -> tuple[Identity, ...]:
    """Read back what `to_json` gave."""
    return tuple(Identity.from_json(row) for row in rows)


def same_service(first: Service, second: Service) -> bool:
    """Whether at least one process, or the run of the unit, of ``first`` is still there.

    Short-lived workers may come and go.
    """
    return bool(keys(first) & keys(second)) or bool(runs(first) & runs(second))


def keys(service: Service) -> set[tuple[object, ...]]:
    """By what its processes are known."""
    return {identity.key for identity in service}


def runs(service: Service) -> set[str]:
    """The runs of the units that they belong to."""
    return {identity.invocation for identity in service if identity.invocation}


def roots(service: Service) -> list[Identity]:
    """Those that none of the others has started."""
    pids = {identity.pid for identity in service}
    return [identity for identity in service if identity.parent not in pids]


@dataclass(frozen=True)
class Proof:
    """The evidence that a restart replaced a service, or did not.

    ``before`` is known before the script is run, all else when the service was asked again: ``name`` is the unit or
    the words by which it was found, ``reloads`` says that the script is only to reload. ``ended`` are those that the
    script had started and that have ended by now, ``others`` those that could have been meant and were left alone,
    ``near`` those that run from the project's folder and were not found by their words, ``state`` is that of the unit
    in systemd's words, or that of another keeper in its own. ``leaving`` are old ones that listen no more and end what
    they have begun. ``undone`` is who it was before the server was rolled back. ``told`` is the sentence as it was
    told then. ``kind`` is that of the service, empty where it is found by the words of its command line. ``does`` says
    that it was to be stopped or started; empty of a restart.

    A project may have several services: this is the proof of its main one, and ``more`` are those of the others.
    """

    before: tuple[Identity, ...] = ()
    after: tuple[Identity, ...] | None = None
    verdict: str = ""
    name: str | None = None
    reloads: bool = False
    told: str = ""
    undone: tuple[Identity, ...] | None = None
    ended: tuple[Identity, ...] = ()
    others: tuple[Identity, ...] = ()
    near: tuple[Identity, ...] = ()
    state: str = ""
    leaving: tuple[Identity, ...] = ()
    kind: str = ""
    does: str = ""
    more: "tuple[Proof, ...]" = ()

    @classmethod
    def beginning(cls, founds: Sequence[tuple[Service, Service]]) -> "Proof":
        """What is known before a restart: of each service who it is, and who runs near it."""
        main, *more = (cls(tuple(service), near=tuple(near)) for service, near in founds)
        return replace(main, more=tuple(more))

    def undoing(self, services: Sequence[Service], *, before: bool = False) -> "Proof":
        """This proof, and who each service was before the server was rolled back; ``before``: also as that."""
        proofs = (*self.each, *(Proof() for _it in services[len(self.each) :]))
        main, *more = (
            replace(proof, undone=tuple(service), before=tuple(service) if before else proof.before)
            for proof, service in zip(proofs, services, strict=False)
        )
        return replace(main, more=tuple(more))

    def line(self, proof: "Proof") -> str:
        """What was told of one of these services; where there are others, with its name."""
        return (
            _("%(name)s: %(told)s") % {"name": proof.name, "told": proof.told}
            if self.more and proof.told
            else proof.told
        )

    def followed_by(self, later: "Proof") -> "Proof":
        """This proof with what was found a while later."""
        main, *more = (replace(it, after=then.after) for it, then in zip(self.each, later.each, strict=False))
        return replace(main, more=tuple(more))

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
        for name in _ASIDE:
            if service := getattr(self, name):
                data[name] = to_json(service)
        more = {"services": [proof.to_json() for proof in self.more]} if self.more else {}
        return data | {name: value for name in ("state", "kind", "does") if (value := getattr(self, name))} | more

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
            state=str(data.get("state", "")),
            kind=str(data.get("kind", "")),
            does=str(data.get("does", "")),
            more=tuple(cls.from_json(row) for row in data.get("services", ())),
            **{name: from_json(data.get(name, ())) for name in _ASIDE},
        )

    def as_told(self) -> Self:
        """This proof with its sentence in the language of the moment."""
        return replace(self, told=self.own_words, more=tuple(proof.as_told() for proof in self.more))

    @property
    def each(self) -> "tuple[Proof, ...]":
        """That of each service by itself, the main one first."""
        return (replace(self, more=()), *self.more)

    @property
    def overall(self) -> str:
        """The verdict on all services: the worst."""
        return max((proof.verdict for proof in self.each), key=_BY_WEIGHT.index)

    @property
    def in_words(self) -> str:
        """The proof of all services in the language of its reader, a line each."""
        return "\n".join(line for proof in self.in_turn if (line := self.line(replace(proof, told=proof.own_words))))

    @property
    def in_turn(self) -> "tuple[Proof, ...]":
        """That of each service in the order in which it was worked on: the last is stopped first."""
        return self.each[::-1] if self.does == Does.STOP else self.each

    def back_again(self, seen: Service) -> Service:
        """Of the processes that were ``seen``, those of a service that was stopped.

        Where it ran from the project's folder, what runs elsewhere is another one; so is what was told then.
        """
        known, inside = keys(self.others), any(it.inside for it in self.before)
        return [it for it in seen if it.key not in known and (it.inside or not inside)]

    @property
    def own_words(self) -> str:
        """That of this service alone; as it was told then where it does not say enough."""
        if self.name is None:
            return self.told
        return sentences(self._told_now(), *self._told_besides())

    @property
    def better_name(self) -> str:
        """The words that would have found what runs from the project's folder; empty where nothing has to be found."""
        missed = self.verdict in {Verdict.DEAD, Verdict.UNKNOWN, Verdict.UNCHANGED} and not self.before
        return roots(self.near)[0].words if missed and self.near else ""

    def _told_now(self) -> str:
        before, after = self.before, self.after or ()
        words = {"name": self._named, "before": listed(before, after), "after": listed(after), "state": self.state}
        match self.verdict:
            case Verdict.REPLACED if not before and self.state:
                return _("%(name)s was started: %(after)s.") % words
            case Verdict.REPLACED if not before:
                return _("%(after)s was started; nothing matched “%(name)s” before.") % words
            case Verdict.REPLACED:
                return _("%(before)s was replaced by %(after)s.") % words
            case Verdict.RELOADED:
                return self._reload_in_words()
            case Verdict.UNCHANGED:
                return self._unchanged_in_words()
            case Verdict.CRASH_LOOPING if after:
                return _("“%(name)s” keeps restarting; it is now %(after)s.") % words
            case Verdict.CRASH_LOOPING:
                return _("“%(name)s” keeps restarting; at the moment nothing is running.") % words
            case Verdict.STOPPED | Verdict.STILL_RUNNING:
                return self._stop_in_words()
            case Verdict.RUNNING:
                return _("%s was running already.") % words["after"]
            case Verdict.DEAD if self.does == Does.START and self.state != NOT_FOUND and not self._new():
                return self._no_start_in_words()
            case Verdict.DEAD if self.state == NOT_FOUND:
                return self._not_found_in_words()
            case Verdict.DEAD if self.kind == "port":
                return _("Nobody listens on port %s after the restart.") % self.name
            case Verdict.DEAD if self.kind == "pidfile":
                return _("The process of the pid file %s is not running after the restart.") % self.name
            case Verdict.DEAD if self._new():
                return _("The application of %(name)s is not running: there is only %(after)s.") % words
            case Verdict.DEAD if self.state:
                return _("%(name)s is not running after the restart: it is %(state)s.") % words
            case Verdict.DEAD:
                return _("No process matches “%s” after the restart.") % self.name
        if self.does == Does.STOP and not after and self.state in {"", "closed", "empty", "stale", NOT_FOUND}:
            return _("Nothing of “%s” was found, neither before nor after the stop: its name may be wrong.") % self.name
        if self.kind and not after:
            return _("%(name)s cannot be asked for: %(state)s.") % words
        if after:
            return (
                _("%s still runs, and it has no workers: whether it has reloaded cannot be seen from outside.")
                % words["after"]
            )
        if not self.name:
            return unknown_process()
        return _("No process matches “%s”, neither before nor after the restart.") % self.name

    def _stop_in_words(self) -> str:
        after = self.after or ()
        words = {"name": self._named, "before": listed(self.before), "state": self.state}
        if self.verdict == Verdict.STOPPED:
            if self.before:
                return _("%(before)s was stopped.") % words
            if self.state and self.kind not in {"port", "pidfile"}:
                return _("%(name)s was stopped already: it is %(state)s.") % words
            return _("%(name)s was stopped already.") % words
        if masters := self._masters():
            return _("%s still runs: it was not stopped.") % listed(masters)
        if after:
            return _("%(name)s was started again: %(after)s.") % (words | {"after": listed(after)})
        return _("%(name)s is not stopped: it is %(state)s.") % words

    def _no_start_in_words(self) -> str:
        words = {"name": self._named, "state": self.state}
        if self.kind == "port":
            return _("Nobody listens on port %s after the start.") % self.name
        if self.kind == "pidfile":
            return _("The process of the pid file %s is not running after the start.") % self.name
        if self.state:
            return _("%(name)s is not running after the start: it is %(state)s.") % words
        return _("No process matches “%s” after the start.") % self.name

    @property
    def _named(self) -> str:
        return _("port %s") % self.name if self.kind == "port" else self.name or ""

    def _not_found_in_words(self) -> str:
        said = {
            "supervisor": _("There is no program “%s” in supervisor."),
            "pm2": _("There is no app “%s” in pm2."),
            "docker": _("There is no container “%s” on the server."),
            "pidfile": _("The pid file %s is not there."),
        }
        return said.get(self.kind, _("There is no unit “%s” on the server.")) % self.name

    def _reload_in_words(self) -> str:
        masters, new = self._masters(), self._new()
        if not new:
            return _("%s has executed its program anew.") % listed(masters)
        return _("%(masters)s has reloaded: its workers are new (%(workers)s).") % {
            "masters": listed(masters),
            "workers": ", ".join(str(worker.pid) for worker in new),
        }

    def _unchanged_in_words(self) -> str:
        old = keys(self.before)
        still, new = [it for it in self.after or () if it.key in old], self._new()
        if not still:  # found under other words than those that were given
            still = list(self.near)
        if self.reloads and not new:
            return _("%s still runs with the same workers: nothing was reloaded.") % listed(still)
        side_by_side = [it for it in roots(new) if it.parent not in {master.pid for master in still}]
        if side_by_side or any(it.parent in {one.pid for one in new} for it in new):
            return _("%(old)s still runs: it was not replaced. %(new)s runs beside it.") % {
                "old": listed(still),
                "new": listed(new),
            }
        return _("%s still runs: it was not replaced.") % listed(still)

    def _told_besides(self) -> list[str]:
        said = []
        if self.leaving:
            said.append(_("%s listens no more and ends what it has begun.") % listed(self.leaving))
        if self.verdict == Verdict.DEAD and self._masters():
            said.append(_("%s still runs from before.") % listed(self._masters()))
        if self.verdict == Verdict.UNCHANGED and not self.reloads and self._has_new_workers():
            said.append(_("Its workers are new: if the script is only to reload, say so in the project."))
        if self.ended:
            said.append(_("Started by the script and ended since: %s.") % listed(self.ended))
        if self.near and not (self.verdict == Verdict.UNCHANGED and not self.before):  # else they are told already
            said.append(_("Running from this folder, or with such a name: %s.") % listed(self.near))
        if self.others:
            said.append(_("Not meant: %s.") % listed(self.others))
        return said

    def _new(self) -> list[Identity]:
        old = keys(self.before)
        return [it for it in self.after or () if it.key not in old]

    def _masters(self) -> list[Identity]:
        old = keys(self.before)
        return [it for it in self.after or () if it.key in old]

    def _has_new_workers(self) -> bool:
        """Whether the old process has new workers, and none of the old ones."""
        masters, new = self._masters(), self._new()
        first = keys(roots(self.before))
        pids = {it.pid for it in masters}
        return bool(new) and all(it.key in first for it in masters) and all(it.parent in pids for it in new)


#: The parts of a proof that stand beside the service.
_ASIDE = ("ended", "others", "near", "leaving")
#: Verdicts from good to bad; first that of a proof that has come to none.
_BY_WEIGHT = [
    *("", Verdict.REPLACED, Verdict.RUNNING, Verdict.RELOADED, Verdict.STOPPED),
    *(Verdict.UNKNOWN, Verdict.UNCHANGED, Verdict.STILL_RUNNING, Verdict.CRASH_LOOPING, Verdict.DEAD),
]


def unknown_process() -> str:
    """Said where there is nothing to find a process by."""
    return _("Which process belongs to the project is not known: name it in process_name.")


def listed(service: Service, like: Service = ()) -> str:
    """Its processes in words, those first that none of the others has started.

    Of one that is ``like`` another, by command and folder, pid and start are enough: the other is told beside it.
    """
    told = {(it.command, it.folder) for it in like if it.pid}
    first = roots(service)
    shown = ", ".join(it.in_short if it.pid and (it.command, it.folder) in told else str(it) for it in first[:LISTED])
    rest = len(service) - len(first[:LISTED])
    if not rest:
        return shown
    return ngettext("%(shown)s and %(count)d more", "%(shown)s and %(count)d more", rest) % {
        "shown": shown,
        "count": rest,
    }


def proof_in_words(data: Mapping[str, Any]) -> str:
    """A stored proof in the language of its reader."""
    return Proof.from_json(data).in_words
