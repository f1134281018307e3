"""Whatever listens on a port: known by the processes that hold its socket."""

import re
from collections.abc import Sequence
from shlex import quote

from django.utils.translation import gettext as _

from projects.commands.kept import Kept
from projects.commands.processes import Survey
from projects.commands.services.kind import (
    LINE,
    LINES,
    Kind,
    Told,
    Where,
    acting,
    first_words,
    number,
    refused,
    sudoers,
)

_PID = re.compile(r"\bpid=(\d{1,10})\b")


class Port(Kind):
    """A TCP port of the server. What holds it and lets go of it serves no more, whether it has ended or not."""

    def check(self, name: str) -> None:
        if not (name.isascii() and name.isdecimal() and 0 < int(name) < 65536):
            raise ValueError(_("A port is a number from 1 to 65535."))

    def ask(self, name: str, where: Where) -> str:
        return acting(where, listeners(int(name)))

    def read(self, name: str, lines: Sequence[str], survey: Survey) -> Kept:
        pids = read_listeners(lines)
        if pids == (1,):
            told = _("systemd itself holds it: name the unit instead")
            return Kept(name, "systemd", is_known=False, problem=told, holds=True)
        listens = any(line.startswith("LISTEN") for line in lines[:LINES])
        if listens and not pids:
            who = refused(lines)
            return Kept(name, "hidden", is_known=False, problem=_("who listens is not shown"), refused=who, holds=True)
        if not listens and (said := first_words(lines)):
            return Kept(name, said, is_known=False, problem=said, holds=True)
        return Kept(
            name, "listening" if listens else "closed", is_up=listens, is_off=not listens, main=pids, holds=True
        )

    def evidence(self, name: str, where: Where) -> str:
        return acting(where, f"echo '== port {int(name)}'\n{listeners(int(name))}")

    def missing(self, name: str) -> Told:
        return Told(_("Nobody listens on port %s") % name)

    def unasked(self, kept: Kept) -> Told:
        what = _("Who listens on port %s cannot be seen") % kept.name
        if kept.refused:
            line = sudoers(kept.refused, "/usr/bin/ss")
            return Told(
                what,
                _("the server does not show it to %s") % kept.refused,
                _("Set run_as to the user that the application runs as, or allow it in sudoers: “%s”") % line,
            )
        return Told(what, kept.problem)


def listeners(port: int) -> str:
    """Print a line ``LISTEN ...`` for each socket that listens on ``port`` (0: on any), with ``pid=`` of its holders.

    As root where only root sees them and sudo allows it; else ``REFUSED user``. Without `ss`, by what is in /proc.
    """
    only = f" {quote(f'sport = :{port}')}" if port else ""
    return f"""ss=$(command -v ss)
if [ -n "$ss" ]; then
said=$(ss -Hltnp{only} 2>&1)
case $said in *pid=*|'') ;; LISTEN*)
more=$(sudo -n ss -Hltnp{only} 2>/dev/null)
case $more in *pid=*) said=$more ;; *) printf 'REFUSED %s\\n' "$(id -un)" ;; esac ;;
esac
[ -z "$said" ] || printf '%s\\n' "$said"
else
{_by_proc(port)}fi
"""


def _by_proc(port: int) -> str:
    wanted = f" && toupper($2) ~ /:{port:04X}$/" if port else ""
    return f"""inodes=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A"{wanted} {{print $10}}')
[ -z "$inodes" ] || ls -l /proc/[0-9]*/fd 2>/dev/null | awk -v inodes="$inodes" '
BEGIN {{ n = split(inodes, list); for (i = 1; i <= n; i++) wanted["socket:[" list[i] "]"] = 1 }}
/^\\/proc\\// {{ split($0, part, "/"); pid = part[3] }}
$NF in wanted && !(pid in told) {{ told[pid]; print "LISTEN pid=" pid }}
END {{ for (pid in told) exit; print "LISTEN" }}'
"""


def read_listeners(lines: Sequence[str]) -> tuple[int, ...]:
    """The pids of those that listen, each once; systemd only where it is alone with its socket."""
    told = (_PID.findall(line[:LINE]) for line in lines if line.startswith("LISTEN"))
    pids = tuple(dict.fromkeys(number(pid) for found in told for pid in found))
    return tuple(pid for pid in pids if pid != 1) or pids
