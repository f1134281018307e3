"""Units of systemd, the system's and a user's own: all processes of the unit's control group."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from django.utils.translation import gettext as _

from projects.commands.kept import NOT_FOUND, Kept
from projects.commands.processes import Survey
from projects.commands.services.kind import LINE, LINES, Does, Kind, Told, Where, acting, number, sudoers
from servers.sentences import storable
from servers.shell import as_user

#: What systemd is asked about a unit; it leaves out what does not apply to the unit's type.
PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "Type", "Result", "MainPID", "InvocationID", "NRestarts"),
    *("ControlGroup", "StateChangeTimestampMonotonic", "ExecMainStatus"),
)
#: Where there are no properties, the reason that systemctl gave is kept beside them.
PROBLEM = "problem"
#: Bytes of a journal that are looked at: its lines may be of any length.
_JOURNAL = 100_000


@dataclass(frozen=True)
class Unit:
    """What systemd says about a unit, by the names of its own properties. ``manager``: ``system``, or a ``user``'s."""

    manager: str
    facts: Mapping[str, str]

    @classmethod
    def read(cls, lines: Sequence[str]) -> "Unit":
        """Read the answer to `ask_unit`."""
        manager, properties = "", {}
        for line in lines[:LINES]:
            name, _space, value = line[:LINE].partition(" ")
            key, equals, answer = line[:LINE].partition("=")
            if name == "UNIT" and not manager:
                manager = value
            elif equals and key in PROPERTIES:
                properties[key] = storable(answer)
            elif not properties:
                properties[PROBLEM] = storable(line[:200])  # systemctl is not there, or has no one to ask
        return cls(manager, properties)

    def fact(self, name: str) -> str:
        """One property; empty where there is none of this name."""
        return self.facts.get(name, "")

    @property
    def is_known(self) -> bool:
        """Whether there is such a unit."""
        return self.fact("LoadState") not in {"", NOT_FOUND}

    @property
    def is_up(self) -> bool:
        """Whether it does what it is there for: it is active, or it has run to its end as it should."""
        ran = self.fact("Type") == "oneshot" and self.fact("ActiveState") == "inactive"
        return self.fact("ActiveState") in {"active", "reloading"} or (ran and self.has_run)

    @property
    def has_run(self) -> bool:
        """Whether it was ever started, and ended well."""
        return self.fact("Result") == "success" and bool(self.fact("InvocationID"))

    @property
    def state(self) -> str:
        """Its state in systemd's own words: ``failed (exit-code)``, ``activating (auto-restart)``, ``not-found``."""
        if self.fact("LoadState") != "loaded":
            return self.fact("LoadState") or self.fact(PROBLEM)
        active, result = self.fact("ActiveState"), self.fact("Result")
        detail = result if active == "failed" else self.fact("SubState")
        return f"{active} ({detail})" if detail and detail != active else active


class Systemd(Kind):
    """A unit."""

    has_groups = True
    acts = True

    def check(self, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9:_.@\\][A-Za-z0-9:_.@\\-]*", name):
            raise ValueError(_("A unit has a name like shop.service, or shop@1.service."))

    def ask(self, name: str, where: Where) -> str:
        return ask_unit(name, where.run_as)

    def read(self, name: str, lines: Sequence[str], survey: Survey) -> Kept:
        unit = Unit.read(lines)
        changed = number(unit.fact("StateChangeTimestampMonotonic"))
        main = number(unit.fact("MainPID"))
        return Kept(
            name,
            unit.state,
            is_known=unit.is_known,
            is_up=unit.is_up,
            is_off=unit.fact("ActiveState") in {"inactive", "failed"},
            is_looping=unit.fact("SubState") == "auto-restart",
            restarts=number(unit.fact("NRestarts")),
            run=unit.fact("InvocationID"),
            since=survey.moment(changed / 1_000_000),
            main=(main,) if main else (),
            group=unit.fact("ControlGroup"),
            problem="" if unit.is_known or unit.state == NOT_FOUND else unit.state,
        )

    def evidence(self, name: str, where: Where) -> str:
        unit = quote(name)

        def shown(user: str, option: str) -> str:
            return f"""systemctl{user} status --no-pager -l -n 0 -- {unit} 2>&1 | head -n 20
journalctl --no-pager -n 30 {option} {unit} 2>&1 | tail -c {_JOURNAL}
"""

        return f"""echo '== '{unit}
case $(systemctl show -p LoadState -- {unit} 2>/dev/null) in
*loaded*)
{shown("", "-u")};;
*)
{acting(where, shown(" --user", "--user-unit"))};;
esac
"""

    def missing(self, name: str) -> Told:
        return Told(
            _("There is no unit %s on the server") % name,
            _("neither of the system nor of the user that the script runs as"),
            _("Correct its name in the project, or install the unit."),
        )

    def unasked(self, kept: Kept) -> Told:
        return Told(_("The unit %s cannot be asked for") % kept.name, kept.problem, _("It needs systemd."))

    def act(self, name: str, where: Where, does: Does) -> str:
        act = f"{does} {quote(name)}"
        return f"""export XDG_RUNTIME_DIR="${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}}"
case $(systemctl show -p LoadState -- {quote(name)} 2>/dev/null) in
*=not-found*|*=error*|'') exec systemctl --user {act} ;;
esac
[ "$(id -u)" = 0 ] || ! sudo -n -l systemctl {act} >/dev/null 2>&1 || exec sudo -n systemctl {act}
exec systemctl --no-ask-password {act}
"""

    def command(self, name: str, does: Does) -> str:
        return f"systemctl {does} {name}"

    def permission(self, name: str, where: Where, does: Does) -> str:
        act = f"{does} {quote(name)}"
        text = f"""case $(systemctl show -p LoadState -- {quote(name)} 2>/dev/null) in *=loaded*)
[ "$(id -u)" = 0 ] || sudo -n -l systemctl {act} >/dev/null 2>&1 ||
pkcheck --action-id org.freedesktop.systemd1.manage-units --process $$ >/dev/null 2>&1 ||
printf 'DENIED %s %s\\n' "$(id -un)" {quote(name)} ;;
esac"""
        return f"{as_user(where.run_as, text)}\n"

    def denied(self, name: str, user: str, does: Does) -> Told:
        command = self.command(name, does)
        return Told(
            _("%s would be refused") % command,
            _("%s may not do so without a password") % user,
            _("Allow it in sudoers: “%s”") % sudoers(user, f"/usr/bin/{command}"),
        )


def ask_unit(unit: str, run_as: str) -> str:
    """Print ``UNIT manager`` and the unit's properties: those of the system's unit, else those of the user's own."""
    show = f"show {' '.join(f'-p {name}' for name in PROPERTIES)} -- {quote(unit)}"
    own = as_user(run_as, f"XDG_RUNTIME_DIR=${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}} systemctl --user {show} 2>&1")
    return f"""unit=$(systemctl {show} 2>&1) manager=system
case $unit in *LoadState=not-found*|*LoadState=error*)
own=$({own})
case $own in *LoadState=loaded*|*LoadState=masked*) unit=$own manager=user ;; esac ;;
esac
printf 'UNIT %s\\n%s\\n' $manager "$unit"
"""
