"""All kinds of services by the names that projects give them."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from django.utils.translation import gettext as _

from projects.commands.services.docker import Docker
from projects.commands.services.kind import Does, Kind
from projects.commands.services.pidfile import PidFile, is_pid_file
from projects.commands.services.pm2 import Pm2
from projects.commands.services.port import Port
from projects.commands.services.supervisor import Supervisor
from projects.commands.services.systemd import Systemd

T = TypeVar("T")

#: What is found by the words of its command line, and what by its pid file; projects call both a process.
PROCESS, PID_FILE = "process", "pidfile"
#: All kinds that can be asked about.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        PID_FILE: PidFile(),
        "port": Port(),
        "systemd": Systemd(),
        "supervisor": Supervisor(),
        "pm2": Pm2(),
        "docker": Docker(),
    }
)


def found_by(kind: str, name: str) -> str:
    """By what a service of a project is found: its kind, for a process that is named by its pid file this."""
    return PID_FILE if kind == PROCESS and is_pid_file(name) else kind


def kind_of(kind: str, name: str) -> Kind | None:
    """What can be asked about a service of a project; None where words of its command line find it."""
    return KINDS.get(found_by(kind, name))


def check_name(kind: str, name: str) -> None:
    """Refuse, with a `ValueError` that says why, a name that no service of this kind has; a process needs none."""
    found = kind_of(kind, name)
    if found is not None and not name:
        raise ValueError(_("Say which one: enter its name."))
    if found is not None:
        found.check(name)


def in_turn(services: Iterable[T], does: Does) -> list[T]:
    """Services in the order in which it is done with them: the last is stopped first."""
    known = list(services)
    return known[::-1] if does == Does.STOP else known


def own_command(services: Iterable[tuple[str, str]], does: Does) -> str:
    """How it is done with services, each by kind and name, by their kinds; empty where one of them has no way."""
    kinds = [(kind_of(kind, name), name) for kind, name in in_turn(services, does)]
    if not all(kind is not None and kind.acts for kind, _name in kinds):
        return ""
    return " && ".join(kind.command(name, does) for kind, name in kinds if kind is not None)
