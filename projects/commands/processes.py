"""The processes and the unit of a service, asked of a server in one short script, and the reading of its answer."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from shlex import quote
from typing import NamedTuple, Self

from django.utils.translation import gettext as _

from projects.commands.service import in_shell
from servers.errors import NonsenseError
from servers.sentences import storable
from servers.shell import as_user

#: How a moment by a server's clock is written.
MOMENT = "%Y-%m-%d %H:%M:%S UTC"
#: What /proc counts start times in, a second: USER_HZ, the same on every architecture that Linux still runs on.
TICKS = 100
#: Characters of a command line that are looked at, and of anything else that is as long as a path at most.
COMMAND_LIMIT = PATH_LIMIT = 4096
#: Processes that are looked through.
MOST = 32_768


@dataclass(frozen=True)
class Process:
    """One process: its identity (pid and start, in ticks since boot), its parent and its command line.

    ``image`` is where its stack began when it last executed a program: another number for the same process means that
    it has executed anew. 0 where the login may not see it. ``group`` is its control group, where that was asked, and
    ``words`` are those of the command line with NUL between them, unless it has given itself a title.
    """

    pid: int
    parent: int
    start: int
    command: str
    image: int = 0
    group: str = ""
    words: str = ""


@dataclass(frozen=True)
class Place:
    """Where a process comes from: the id of its user, the file of its program, the folder that it works in.

    None and empty where the login may not see it.
    """

    user: int | None = None
    program: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Survey:
    """A server's state: boot id, every process that is not the asking session's own, what keepers of services say.

    ``folder`` is the real path of the folder that was asked for, and ``releases`` that of the releases in it, links
    resolved; empty where there is none. ``now`` is the moment of the answer, in ticks since boot; ``user`` the id of
    the user that scripts run as. ``said`` are the lines of each of the services that were asked for, by its number,
    ``links`` those of `ls -ln` by the name of the link.
    """

    boot: str
    booted_at: int
    processes: tuple[Process, ...]
    said: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    folder: str = ""
    releases: str = ""
    now: int = 0
    user: int | None = None
    links: Mapping[str, str] = field(default_factory=dict, repr=False)

    def since(self, start: int) -> str:
        """When a process with this ``start`` was started, by the server's clock, in UTC."""
        return self.moment(start / TICKS)

    def moment(self, seconds: float) -> str:
        """The moment so many seconds after the boot, by the server's clock, in UTC."""
        try:
            return datetime.fromtimestamp(self.booted_at + seconds, UTC).strftime(MOMENT)
        except (ValueError, OverflowError, OSError):  # a server may say anything
            return ""

    @cached_property
    def children(self) -> Mapping[int, list[Process]]:
        """The children of each process, by its pid."""
        families: dict[int, list[Process]] = {}
        for process in self.processes:
            families.setdefault(process.parent, []).append(process)
        return families

    def below(self, process: Process) -> Iterator[Process]:
        """Its children, their children, and so on."""
        waiting, seen = [process], {process.pid}
        while waiting:
            for child in self.children.get(waiting.pop().pid, ()):
                if child.pid not in seen:
                    seen.add(child.pid)
                    waiting.append(child)
                    yield child

    def place(self, pid: int) -> Place:
        """Where a process comes from."""
        user, program = self._link(pid, "exe")
        _user, folder = self._link(pid, "cwd")
        return Place(user, program.removesuffix(" (deleted)"), folder)

    def is_below(self, path: str) -> bool:
        """Whether a path lies in the folder that was asked for."""
        return bool(path) and f"{plain_path(path)}/".startswith(self._folders)

    @cached_property
    def _folders(self) -> tuple[str, ...]:
        return tuple(f"{plain_path(folder)}/" for folder in (self.folder, self.releases) if folder)

    def release_of(self, folder: str) -> str:
        """The release that a folder lies in; empty where it lies in none."""
        path, releases = f"{plain_path(folder)}/", f"{plain_path(self.releases)}/"
        return (
            path.removeprefix(releases).lstrip("/").split("/")[0] if self.releases and path.startswith(releases) else ""
        )

    def _link(self, pid: int, name: str) -> tuple[int | None, str]:
        """The owner of one of the process's links, and where it leads."""
        match = _LINK.fullmatch(self.links.get(f"/proc/{pid}/{name}", ""))
        return (int(match[1]), match[3] or "") if match else (None, "")


def plain_path(path: str) -> str:
    """As `ls -q` prints it where the locale knows no letters but ASCII; without the mark of a deleted file."""
    path = path.removesuffix(" (deleted)")
    if path.isascii() and path.isprintable():
        return path
    return re.sub(r"[^\x20-\x7e]", "?", path.encode(errors="surrogateescape").decode("latin-1"))


_LINK = re.compile(r"l\S*+ ++\d++ ++(\d{1,10}) [^/]*+(/proc/\d{1,10}/(?:exe|cwd))(?: -> (.*))?", re.DOTALL)


def survey(asked: Mapping[int, str] | None = None, folder: str = "", run_as: str = "", *, groups: bool = False) -> str:
    """Print everything that `read_survey` wants. The command lines come back as data and are matched in Python.

    ``asked`` are the texts that ask the keepers of services, by the numbers of those. ``folder`` may begin with ``~/``.
    What another user's processes are is shown to that user, ``run_as``, alone. ``groups``: the control groups, too.
    """
    services = "".join(f"echo SERVICE {number}\n{text}" for number, text in (asked or {}).items())
    path = in_shell(folder)
    where = f"""[ ! -d {path} ] || printf 'FOLDER %s\\n' "$(cd -P -- {path} && pwd -P)"
[ ! -L {path}/releases ] || printf 'RELEASES %s\\n' "$(cd -P -- {path}/releases && pwd -P)"
"""
    links = "ls -lndq /proc/[0-9]*/exe /proc/[0-9]*/cwd 2>/dev/null"
    who = ""
    if run_as:  # root sees them all
        links = f"if [ -r /proc/1/environ ]; then {links}; else {as_user(run_as, links)}; fi"
        who = f"printf 'USER %s\\n' \"$(id -u -- {quote(run_as)} 2>/dev/null)\"\n"
    return f"""read -r boot </proc/sys/kernel/random/boot_id
printf 'BOOT %s\\nSELF %s\\n' "$boot" $$
{where if folder else ""}{who}{services}echo PROCESSES
grep -aH '' /proc/stat /proc/[0-9]*/stat /proc/[0-9]*/cmdline{" /proc/[0-9]*/cgroup" if groups else ""} 2>/dev/null
echo PLACES
{links}
:
"""


def need_whole(text: str) -> None:
    """Refuse, with a `NonsenseError`, what is no answer to `survey`, or not a whole one."""
    _head, _mark, rest = text.partition("PROCESSES\n")
    if "\nPLACES\n" not in f"\n{rest}":
        raise _nonsense(_("it is cut off, or another one"))


_PROC_LINE = re.compile(r"^/proc/(\d{1,10})/(stat|cmdline|cgroup):(.*)$", re.MULTILINE)
_BOOTED_AT = re.compile(r"^/proc/stat:btime (\d{1,12})$", re.MULTILINE)


def read_survey(text: str) -> Survey:
    """Take the answer apart, and leave out the asking session: its shell, the shell's ancestors and children.

    Raises `NonsenseError` where there are more processes than are looked through.
    """
    head, _mark, rest = text.partition("PROCESSES\n")
    listing, _mark, places = f"\n{rest}".partition("\nPLACES\n")
    facts, said = _read_head(head)
    stats: dict[int, _Stat] = {}
    commands: dict[int, str] = {}
    groups: dict[int, str] = {}
    for match in _PROC_LINE.finditer(listing):
        pid = int(match[1])
        if match[2] == "stat":
            if (stat := _Stat.read(match[3])) is not None:
                stats[pid] = stat
        elif match[2] == "cmdline":
            line = match[3][:COMMAND_LIMIT]
            commands[pid] = (commands.get(pid, "") + " " + line).strip("\0 ")[:COMMAND_LIMIT]
            if len(commands) > MOST:
                raise _nonsense(_("it has more than %d processes") % MOST)
        elif match[3].startswith(("0::", "1:name=systemd:")):
            groups[pid] = match[3][:PATH_LIMIT].split(":", 2)[2]
    booted_at = _BOOTED_AT.search(listing)
    own = _number(facts.get("SELF", "")) or 0
    folder = facts.get("FOLDER", "").rstrip("/")
    left_out = _session_of(own, {pid: stat.parent for pid, stat in stats.items()})
    survey = Survey(
        boot=storable(facts.get("BOOT", ""))[:_BOOT_LIMIT],
        booted_at=int(booted_at[1]) if booted_at else 0,
        processes=tuple(
            Process(
                *(pid, stat.parent, stat.start, commands[pid].replace("\0", " ")),
                *(stat.image, groups.get(pid, ""), commands[pid]),
            )
            for pid, stat in sorted(stats.items())
            if pid not in left_out and stat.state != "Z" and commands.get(pid)
        ),
        said=said,
        folder=folder,
        releases=facts.get("RELEASES", f"{folder}/releases" if folder else "").rstrip("/"),
        now=stats[own].start if own in stats else 0,
        user=_number(facts.get("USER", "")),
        links=_read_links(places),
    )
    # Without another one, scripts run as the login's own user.
    return survey if survey.user is not None else replace(survey, user=survey.place(own).user)


def _read_links(places: str) -> Mapping[str, str]:
    """The lines of `ls -ln` by the name of the link: the first path of its line."""
    found: dict[str, str] = {}
    for line in places.split("\n"):
        begin = line.find("/")
        if begin > 0:
            found.setdefault(line[begin:].partition(" ")[0], line[: 2 * PATH_LIMIT])
    return found


#: Characters of the id of a boot, and a few more.
_BOOT_LIMIT = 64


def _nonsense(why: str) -> NonsenseError:
    return NonsenseError(_("The list of processes makes no sense"), why, _("Check the server."))


class _Stat(NamedTuple):
    """What is read of /proc/PID/stat."""

    state: str
    parent: int
    start: int
    image: int

    @classmethod
    def read(cls, text: str) -> Self | None:
        """None for what is no such line."""
        fields = text[-_STAT_LIMIT:].rpartition(")")[2].split()
        if len(fields) <= _STACK:
            return None
        parent, start, image = (_number(fields[at]) for at in (_PARENT, _START, _STACK))
        return None if parent is None or start is None else cls(fields[0], parent, start, image or 0)


#: Characters of a line of /proc/PID/stat behind the name of the program.
_STAT_LIMIT = 1024
#: Where the fields are behind the name of the program.
_PARENT, _START, _STACK = 1, 19, 25


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


#: Characters of all that comes before the processes.
_HEAD_LIMIT = 1 << 16


def _read_head(head: str) -> tuple[dict[str, str], dict[int, tuple[str, ...]]]:
    """The facts of the server, and what was said of each service."""
    facts: dict[str, str] = {}
    services: dict[int, list[str]] = {}
    said: list[str] | None = None
    for line in head[:_HEAD_LIMIT].splitlines():
        name, _space, value = line[:PATH_LIMIT].partition(" ")
        if name == "SERVICE" and (number := _number(value)) is not None:
            said = services.setdefault(number, [])
        elif said is not None:
            said.append(line)
        else:
            facts.setdefault(name, value)
    return facts, {number: tuple(lines) for number, lines in services.items()}


def _session_of(own: int, parents: Mapping[int, int]) -> set[int]:
    """The asking shell, all that is below it, and its ancestors."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    left_out, waiting = {own}, [own]
    while waiting:
        below = [pid for pid in children.get(waiting.pop(), ()) if pid not in left_out]
        left_out.update(below)
        waiting += below
    while (parent := parents.get(own, 0)) > 1 and parent not in left_out:
        left_out.add(parent)
        own = parent
    return left_out
