"""A process whose pid stands in a file."""

import re
from collections.abc import Sequence

from django.utils.translation import gettext as _

from projects.commands.kept import NOT_FOUND, Kept
from projects.commands.processes import TICKS, Survey
from projects.commands.service import in_shell, script_path
from projects.commands.services.kind import LINES, Kind, Told, Where, acting, number, refused

_ANSWER = re.compile(r"PID (\d{1,10}) (\d{1,12})")
#: A process that began so many seconds after its file was written has another one's pid.
_SLACK = 2


class PidFile(Kind):
    """The process that a file names, and those below it. A relative path starts at ``{deploy path}/current``."""

    def check(self, name: str) -> None:
        if not is_pid_file(name) or re.search(r"[\x00-\x1f]", name):
            raise ValueError(_("Give the path of a pid file, like /run/shop.pid."))

    def ask(self, name: str, where: Where) -> str:
        file = in_shell(script_path(name, where.folder.rstrip("/")))
        text = f"""f={file}
if [ -r "$f" ]; then
pid=
read -r pid _ <"$f"
printf 'PID %s %s\\n' "$pid" "$(stat -Lc %Y -- "$f")"
elif [ -e "$f" ]; then printf 'REFUSED %s\\n' "$(id -un)"
fi
"""
        return acting(where, text)

    def read(self, name: str, lines: Sequence[str], survey: Survey) -> Kept:
        if who := refused(lines):
            return Kept(name, "unreadable", is_known=False, problem=_("it cannot be read"), refused=who)
        match = next((match for line in lines[:LINES] if (match := _ANSWER.fullmatch(line))), None)
        if match is None:
            return Kept(name, "empty" if lines else NOT_FOUND, is_off=True)
        pid, written = number(match[1]), number(match[2])
        process = next((process for process in survey.processes if process.pid == pid), None)
        if process is None or survey.booted_at + process.start / TICKS > written + _SLACK:
            return Kept(name, "stale", is_off=True)
        return Kept(name, "running", is_up=True, main=(pid,))

    def evidence(self, name: str, where: Where) -> str:
        file = in_shell(script_path(name, where.folder.rstrip("/")))
        return acting(where, f'f={file}\necho "== $f"\nls -ln -- "$f" 2>&1\nhead -c 100 -- "$f" 2>&1\necho\n')

    def missing(self, name: str) -> Told:
        return Told(_("The pid file %s is not there") % name)

    def unasked(self, kept: Kept) -> Told:
        return Told(
            _("The pid file %s cannot be read") % kept.name,
            _("%s may not read it") % kept.refused,
            _("Let it be readable, or set run_as to the user that the application runs as."),
        )


def is_pid_file(name: str) -> bool:
    """Whether the name of a service is the path of a pid file."""
    return name.startswith(("/", "~/")) or name.endswith(".pid")
