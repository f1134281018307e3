"""Shell text that looks at a server before it is touched, and the facts it brings back. It changes nothing."""

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from shlex import quote
from typing import Any

from django.utils.translation import gettext as _

from projects.commands.config_files import State
from projects.commands.service import at_home, in_shell
from servers.errors import NonsenseError
from servers.sentences import printable, told
from servers.shell import as_user

TOOLS = ("bash", "setsid", "tar", "gzip", "readlink", "mv", "grep", "mkfifo")
#: The namespace of processes of a container, or that of its machine: the same kernel counts it once.
_PROCESSES = "/proc/self/ns/pid"
#: Characters of a server's description of itself that are kept, of a path, and of the whole answer.
_WORDS, _PATH, _LONGEST = 200, 4096, 1 << 16
#: Services that are looked at.
_SERVICES = 100
#: In no path of a login: line breaks and other controls.
_UNFIT = re.compile(r"[\x00-\x1f\x7f]")


def question(script: str, deploy_path: str, run_as: str = "", others: Iterable[str] = (), *, writes: bool) -> str:
    """Print one fact a line: ``HOME path``, ``LIVE link``, ``LOST``, ``TOOL name``, ``SCRIPT``, ``WINDOWS``, ``SUDO``.

    ``REFUSED user`` are those of the ``others``, whom steps run as, that the login may not become.

    And the machine's own: ``MACHINE id``, ``BOOT id``, ``SYSTEM name``, ``KERNEL release``, ``SHELL path``, ``AT
    device:inode path`` of its processes and of the place (of the folder above that is there).

    Without a ``script`` nothing is said of one. Where the deployment ``writes`` to the deploy path, ``FOLDER``,
    ``CURRENT`` and ``FREE kilobytes`` too. Both paths may begin with ``~/``.
    """
    tools = " ".join(TOOLS)
    place = in_shell(deploy_path or script)
    text = f"""printf 'HOME %s\\n' "$HOME"
printf 'SHELL %s\\n' "$SHELL"
[ ! -r /etc/machine-id ] || read -r id </etc/machine-id && printf 'MACHINE %s\\n' "$id"
read -r boot </proc/sys/kernel/random/boot_id && printf 'BOOT %s\\n' "$boot"
read -r kernel </proc/sys/kernel/osrelease && printf 'KERNEL %s\\n' "$kernel"
[ ! -r /etc/os-release ] || while IFS= read -r line; do
case $line in PRETTY_NAME=*) printf 'SYSTEM %s\\n' "${{line#*=}}"; break ;; esac
done </etc/os-release
for tool in {tools}; do command -v $tool >/dev/null 2>&1 && echo TOOL $tool; done
near={place}
while [ ! -e "$near" ] && [ "$near" != / ]; do near=${{near%/*}}; near=${{near:-/}}; done
stat -Lc 'AT %d:%i %n' -- {_PROCESSES} "$near" 2>/dev/null
"""
    if run_as:
        become = as_user(run_as, "true")
        text += f"if {become} </dev/null >/dev/null 2>&1; then echo SUDO granted; else echo SUDO refused; fi\n"
    for user in others:
        become = as_user(user, "true")
        text += f"{become} </dev/null >/dev/null 2>&1 || echo REFUSED {quote(user)}\n"
    path = in_shell(script)
    if script:
        text += f"""if [ ! -f {path} ]; then echo SCRIPT missing; elif [ ! -r {path} ]; then echo SCRIPT unreadable
else IFS= read -r line <{path}; case $line in *'\r') echo WINDOWS lines ;; esac; fi
"""
    folder = in_shell(deploy_path)
    if deploy_path:
        text += f"""if [ -L {folder}/current ]; then
printf 'LIVE %s\\n' "$(readlink {folder}/current)"
[ -e {folder}/current ] || {{ [ -d {folder}/releases ] && [ ! -x {folder}/releases ]; }} || echo LOST
fi
"""
    if writes:
        text += f"""[ -d "$near" ] && [ -w "$near" ] && [ -x "$near" ] || echo FOLDER "$near"
[ -e {folder}/current ] && [ ! -L {folder}/current ] && echo CURRENT
echo FREE "$(df -Pk -- "$near" 2>/dev/null | awk 'NR==2 {{print $4}}')"
"""
    return text


@dataclass(frozen=True)
class Machine:
    """What a machine says of itself; empty where it says nothing.

    ``processes`` is the list of processes that the login sees: two containers of one machine have two.
    """

    id: str = ""
    boot: str = ""
    processes: str = ""
    system: str = ""
    kernel: str = ""
    shell: str = ""


@dataclass(frozen=True)
class Facts:
    """The answer to `question`. ``script`` and ``folder`` are empty when all is well; ``free`` is in bytes or -1.

    ``home`` is the login's, ``live`` where ``current`` leads; empty where there is none. ``is_lost``: nothing is there.

    ``may_run_as``: the login may become the user that was named, if one was; ``refused`` are other users whom it may
    not. ``windows_lines``: the script's first line ends in CR LF.

    ``inode`` is the real folder of the place, by device and inode, whatever it is called: of the one above that is
    there, with the ``rest`` of the path below it. Empty where the server cannot tell. ``files`` are the config files
    that were asked for.

    ``denied`` are the services whose own restart would be refused, each with the user that it is refused to.
    """

    home: str
    live: str
    tools: frozenset[str]
    script: str
    folder: str
    current_is_folder: bool
    may_run_as: bool
    free: int
    windows_lines: bool = False
    is_lost: bool = False
    machine: Machine = Machine()
    inode: str = ""
    rest: str = ""
    asked_for_sudo: bool = False
    denied: tuple[tuple[str, str], ...] = ()
    refused: frozenset[str] = frozenset()
    files: tuple[State, ...] = ()

    def learned(self) -> dict[str, Any]:
        """What is worth keeping of the machine, by names that stay; what was not asked for this time is left out."""
        machine = self.machine
        found: dict[str, Any] = {
            "machine_id": machine.id,
            "boot_id": machine.boot,
            "system": machine.system,
            "kernel": machine.kernel,
            "shell": machine.shell,
            "tools": sorted(self.tools),
        }
        if self.asked_for_sudo:
            found["sudo"] = self.may_run_as
        if self.free >= 0:
            found["free"] = self.free
        return found


def read(text: str, place: str = "") -> Facts:
    """Take the answer apart; ``place`` is the path that was asked about, which may begin with ``~/``.

    Raises `NonsenseError` where it is none.
    """
    if len(text) > _LONGEST:
        raise _nonsense(_("it is too long"))
    rows = [line.partition(" ")[::2] for line in text.split("\n")]
    values = dict(rows)
    free = values.get("FREE", "").strip()
    home = values.get("HOME", "")
    if len(home) > _PATH or _UNFIT.search(home):
        raise _nonsense(_("the home of the login is “%s”") % printable(home)[:_WORDS])
    inodes = {path: inode for inode, _space, path in (value.partition(" ") for name, value in rows if name == "AT")}
    processes = inodes.pop(_PROCESSES, "")
    near, inode = next(iter(inodes.items()), ("", ""))
    return Facts(
        home=home,
        live=values.get("LIVE", ""),
        tools=frozenset(value for name, value in rows if name == "TOOL").intersection(TOOLS),
        script=values.get("SCRIPT", ""),
        folder=told(values.get("FOLDER", ""))[:_PATH],
        current_is_folder="CURRENT" in values,
        may_run_as=values.get("SUDO") != "refused",
        free=int(free) * 1024 if re.fullmatch(r"[0-9]{1,15}", free) else -1,
        windows_lines="WINDOWS" in values,
        is_lost="LOST" in values,
        machine=Machine(
            id=_matching(r"[0-9a-f]{32}", values.get("MACHINE", "")),
            boot=_matching(r"[0-9a-f-]{36}", values.get("BOOT", "")),
            processes=_matching(r"\d{1,20}:\d{1,20}", processes),
            system=_words(values.get("SYSTEM", "").strip("\"'")),
            kernel=_words(values.get("KERNEL", "")),
            shell=_words(values.get("SHELL", "")),
        ),
        inode=_matching(r"\d{1,20}:\d{1,20}", inode),
        rest=_below(at_home(place, home), near),
        asked_for_sudo="SUDO" in values,
        denied=tuple(_denied(value for name, value in rows if name == "DENIED")),
        refused=frozenset(_words(value) for name, value in rows if name == "REFUSED"),
    )


def _denied(values: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and user of each service whose restart is refused."""
    for value in islice(values, _SERVICES):
        user, _space, name = value.partition(" ")
        yield name[:_WORDS], _words(user)


def _nonsense(why: str) -> NonsenseError:
    return NonsenseError(_("The server's description of itself makes no sense"), why, _("Check the server."))


def _below(path: str, near: str) -> str:
    """The part of ``path`` below the folder ``near``, in one spelling."""
    rest = path[len(near) :].strip("/") if path.startswith(near) else path
    return posixpath.normpath(rest) if rest else ""


def _matching(pattern: str, value: str) -> str:
    return value if re.fullmatch(pattern, value, re.ASCII) else ""


def _words(value: str) -> str:
    """A server's description of itself, fit for a page."""
    return printable(value)[:_WORDS]
