"""Which services a server has: units, programs, apps, containers and listeners, asked for in one command."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from shlex import quote
from typing import Any

from projects.commands.kept import Kept
from projects.commands.services.docker import FIND as FIND_DOCKER
from projects.commands.services.kind import LINE, Where, acting, ask_keeper, first_words, refused, words
from projects.commands.services.kinds import KINDS, check_name
from projects.commands.services.pm2 import FIND, PICK
from projects.commands.services.port import listeners
from servers.sentences import sentences

#: Services of one kind that are offered, and lines of an answer that are read.
MOST, _LINES = 100, 4000
#: Units that come with an operating system: nobody deploys them.
_OF_THE_SYSTEM = re.compile(
    r"(?:systemd-|dbus|getty@|serial-getty@|console-getty|user@|user-runtime-dir@|ssh(?:d|@|\.)|cron|atd?\.|rsyslog"
    r"|polkit|networking|network|NetworkManager|ifup@|wpa_supplicant|chrony|ntp|unattended-upgrades|apt-|dpkg-"
    r"|snapd?[.-]|udisks|upower|accounts-daemon|ModemManager|multipathd|irqbalance|auditd|firewalld|ufw|nftables"
    r"|fail2ban|lvm2|mdadm|smart|thermald|acpid|avahi|bluetooth|cups|packagekit|fwupd|rtkit|alsa|kmod|keyboard|console"
    r"|plymouth|emergency|rescue|rc-local|qemu-guest|open-vm|cloud-|google-|amazon-|walinuxagent|machine-sshd"
    r"|deployer[-.])"
)
_LISTENER = re.compile(r"LISTEN +\S+ +\S+ +\S{0,100}:(\d{1,5}) ")
_HOLDER = re.compile(r"\(\(\"([^\"]{1,64})\"")


@dataclass(frozen=True)
class Offered:
    """One service of a server: its kind and name as a project has them, and what is said of it there."""

    kind: str
    name: str
    about: str = ""


@dataclass(frozen=True)
class Inventory:
    """All that were found; ``problems`` are the kinds that this login could not ask about, with the reason."""

    offered: tuple[Offered, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()


def question(run_as: str = "") -> str:
    """Print what `read` wants. It changes nothing: no keeper that is not running is started."""
    where = Where(run_as=run_as)
    show = "-p Id -p Description -p FragmentPath -p ActiveState -p SubState"
    listed = "--type=service --state=active,failed,activating --no-legend --plain --no-pager"

    def units(user: str) -> str:
        names = f"systemctl{user} list-units {listed} 2>/dev/null | awk '{{print $1}}'"
        return f"""names=$({names})
[ -z "$names" ] || systemctl{user} show {show} -- $names 2>/dev/null
"""

    boxes = (
        'BOX [{{json .Names}},{{json .Image}},{{json .Status}},{{json (.Label "com.docker.compose.project")}},'
        '{{json (.Label "com.docker.compose.service")}}]'
    )
    docker = f"$sudo $docker ps --format {quote(boxes)}"
    parts = {
        "systemd": units(""),
        "user": units(" --user"),
        "supervisor": "command -v supervisorctl >/dev/null && {\n" + ask_keeper("$sudo supervisorctl status") + "}\n",
        "pm2": f'{FIND}\n[ -z "$node" ] || pm2 jlist 2>/dev/null | node -e {quote(PICK)} 2>&1\n',
        "docker": FIND_DOCKER + '[ ! -x "$docker" ] || {\n' + ask_keeper(docker) + "}\n",
        "port": listeners(0),
    }
    return "".join(f"echo PART {name}\n{acting(where, f'{text}:')}" for name, text in parts.items())


def read(answer: str) -> Inventory:
    """Take the answer apart; what has no name that a project could have is left out."""
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in islice(answer.splitlines(), _LINES):
        if line.startswith("PART "):
            lines = parts.setdefault(line[5:], [])
        else:
            lines.append(line[:LINE])
    problems = {kind: _problem(kind, parts.get(kind, [])) for kind in ("supervisor", "docker")}
    found = (it for part, reader in _READERS.items() for it in islice(reader(parts.get(part, [])), MOST))
    return Inventory(
        tuple(dict.fromkeys(it for it in found if _can_be_named(it))),
        tuple((kind, problem) for kind, problem in problems.items() if problem),
    )


def _can_be_named(it: Offered) -> bool:
    try:
        check_name(it.kind, it.name)
    except ValueError:
        return False
    return len(it.name) <= 200


def _problem(kind: str, lines: Sequence[str]) -> str:
    """Why the keepers of this kind could not be asked, if there are any, and the remedy."""
    said = first_words(lines)
    if user := refused(lines):
        told = KINDS[kind].unasked(Kept(kind, refused=user))
        return sentences(told.why, told.remedy)
    # One that is not running has no services: that is nothing to worry about.
    return said if re.search(r"^error|permission", said, re.IGNORECASE) else ""


def _units(lines: Sequence[str]) -> Iterator[Offered]:
    """Those that an operator has put there first."""
    blocks: list[dict[str, str]] = [{}]
    for line in lines:
        name, equals, value = line.partition("=")
        if equals:
            blocks[-1][name] = value
        elif not line.strip():
            blocks.append({})
    known = [it for it in blocks if it.get("Id") and not _OF_THE_SYSTEM.match(it["Id"])]
    for it in sorted(known, key=lambda it: not it.get("FragmentPath", "").startswith(("/etc/", "/home/", "/root/"))):
        state = " ".join(filter(None, [it.get("Description"), f"({it.get('SubState', '')})"]))
        yield Offered("systemd", it["Id"], words(state))


def _programs(lines: Sequence[str]) -> Iterator[Offered]:
    for line in lines:
        if match := re.fullmatch(r"(\S{1,200}) ++([A-Z]{5,8})\b *+(.*)", line.rstrip()):
            yield Offered("supervisor", match[1], words(f"{match[2]} {match[3]}"))


def _apps(lines: Sequence[str]) -> Iterator[Offered]:
    for row in _rows(lines, "APP "):
        if len(row) >= 5 and isinstance(row[0], str):
            yield Offered("pm2", row[0], words(f"{row[2]} ({row[4]})"))


def _containers(lines: Sequence[str]) -> Iterator[Offered]:
    for row in _rows(lines, "BOX "):
        if len(row) == 5 and all(isinstance(it, str) for it in row):
            names, image, status, project, service = row
            name = f"{project}/{service}" if project and service else names.split(",")[0]
            yield Offered("docker", name, words(f"{image} {status}"))


def _ports(lines: Sequence[str]) -> Iterator[Offered]:
    """Those whose holder is seen, unless it is a way into the machine."""
    seen = set()
    for line in lines:
        match, holder = _LISTENER.match(line), _HOLDER.search(line)
        if match and holder and match[1] not in seen and holder[1] not in {"sshd", "systemd", "systemd-resolve"}:
            seen.add(match[1])
            yield Offered("port", match[1], words(holder[1]))


def _rows(lines: Sequence[str], mark: str) -> Iterator[list[Any]]:
    for line in lines:
        if line.startswith(mark):
            try:
                row = json.loads(line[len(mark) :])
            except (ValueError, RecursionError):
                continue
            if isinstance(row, list):
                yield row


_READERS = {
    "systemd": _units,
    "user": _units,
    "supervisor": _programs,
    "pm2": _apps,
    "docker": _containers,
    "port": _ports,
}
