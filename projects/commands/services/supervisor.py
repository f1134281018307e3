"""Programs that supervisor keeps running."""

import re
from collections.abc import Iterator, Sequence
from shlex import quote

from django.utils.translation import gettext as _

from projects.commands.kept import NOT_FOUND, Kept
from projects.commands.processes import Survey
from projects.commands.service import in_shell
from projects.commands.services.kind import (
    DENIED,
    LINE,
    LINES,
    Does,
    Kind,
    Told,
    Where,
    acting,
    ask_keeper,
    first_words,
    number,
    refused,
    sudoers,
    words,
)

_NAME = re.compile(r"(?:-c ([~/][^\s'\"]*) )?([\w.@+-]+(?::(?:[\w.@+-]+|\*))?)")
_ROW = re.compile(r"(\S{1,200}) ++(STOPPED|STARTING|RUNNING|BACKOFF|STOPPING|EXITED|FATAL|UNKNOWN)\b *+(.*)")
_PID = re.compile(r"pid (\d{1,10}),")
#: The states from which supervisor starts nothing.
_OFF = frozenset({"STOPPED", "EXITED", "FATAL"})


class Supervisor(Kind):
    """A program, or a group of them (``group:*``); ``-c FILE`` in front names another configuration than the usual one.

    Supervisor counts no restarts: those are seen by the pids that change.
    """

    acts = True

    def check(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name.startswith("-c -"):
            raise ValueError(
                _("A program of supervisor has a name like shop, group:shop or group:*; “-c FILE ” may stand in front.")
            )

    def title(self, name: str) -> str:
        return name.rpartition(" ")[2]

    def ask(self, name: str, where: Where) -> str:
        return acting(where, ask_keeper(f"$sudo {control_of(name)} status {program_of(name)}"))

    def read(self, name: str, lines: Sequence[str], survey: Survey) -> Kept:
        who, rows, title = refused(lines), [*_rows(lines)], self.title(name)
        if not rows:
            said = first_words(lines)
            is_missing = "ERROR (no such" in said
            return Kept(
                title,
                NOT_FOUND if is_missing else said or "silent",
                is_known=False,
                problem="" if is_missing else said or _("supervisorctl says nothing"),
                refused=who,
            )
        down = [(state, told) for _name, state, told in rows if state != "RUNNING"]
        state, told = down[0] if down else ("RUNNING", "")
        return Kept(
            title,
            f"{state} ({words(told)})" if down and told else state,
            is_up=not down,
            is_off=all(state in _OFF for _name, state, _told in rows),
            is_looping=any(state == "BACKOFF" for state, _told in down),
            main=tuple(number(match[1]) for _name, _state, told in rows if (match := _PID.search(told))),
        )

    def evidence(self, name: str, where: Where) -> str:
        control, program = control_of(name), program_of(name)
        one = f"""echo '== '{quote(name)}
$sudo {control} status {program} 2>&1
for log in stdout stderr; do
echo "== $log"
$sudo {control} tail -6000 {program} $log 2>&1 | tail -n 30
done
"""
        return acting(where, _as_root_if_refused(control) + one)

    def missing(self, name: str) -> Told:
        return Told(
            _("There is no program %s in supervisor") % self.title(name),
            "",
            _("Correct its name (supervisorctl status lists all), or add it and run “supervisorctl update”."),
        )

    def unasked(self, kept: Kept) -> Told:
        what = _("The program %s of supervisor cannot be asked for") % kept.name
        if kept.refused:
            return Told(
                what,
                _("supervisor does not let %s ask") % kept.refused,
                _("Allow it in sudoers: “%s”") % sudoers(kept.refused, "/usr/bin/supervisorctl"),
            )
        return Told(what, kept.problem, _("Start supervisor, or name its file: “-c FILE NAME”."))

    def act(self, name: str, where: Where, does: Does) -> str:
        control = control_of(name)
        return f"{_as_root_if_refused(control)}exec $sudo {control} {_verb(does)} {program_of(name)}\n"

    def command(self, name: str, does: Does) -> str:
        match = _NAME.fullmatch(name)
        file = f"-c {match[1]} " if match and match[1] else ""
        return f"supervisorctl {file}{_verb(does)} {match[2] if match else name}"


def control_of(name: str) -> str:
    """The program to speak to supervisor by, with the configuration that a name says."""
    match = _NAME.fullmatch(name)
    return f"supervisorctl -c {in_shell(match[1])}" if match and match[1] else "supervisorctl"


def program_of(name: str) -> str:
    """The program or group of a name, quoted."""
    match = _NAME.fullmatch(name)
    return quote(match[2] if match else name)


def _verb(does: Does) -> str:
    return "signal HUP" if does == Does.RELOAD else str(does)


def _as_root_if_refused(control: str) -> str:
    """Set ``sudo``, which stands in front of the program, where this user may not speak to supervisor."""
    return f"""sudo=
case $(LC_ALL=C {control} pid 2>&1) in {DENIED}) sudo='sudo -n' ;; esac
"""


def _rows(lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for line in lines[:LINES]:
        if match := _ROW.fullmatch(line[:LINE].rstrip()):
            yield match[1], match[2], match[3]
