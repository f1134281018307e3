"""Apps that pm2 keeps running."""

import json
import re
from collections.abc import Sequence
from shlex import quote
from typing import Any

from django.utils.translation import gettext as _

from projects.commands.kept import NOT_FOUND, Kept
from projects.commands.processes import Survey
from projects.commands.services.kind import LINE, LINES, Does, Kind, Told, Where, acting, words

#: pm2 is found as its daemon found node: a session without a terminal has not the path of nvm and its like. Where no
#: daemon is alive nobody is asked, for `pm2` would start one.
FIND = """\
home=${PM2_HOME:-$HOME/.pm2}
god=
[ ! -r "$home/pm2.pid" ] || read -r god <"$home/pm2.pid"
node=$(readlink "/proc/${god:-0}/exe" 2>/dev/null) || :
command -v pm2 >/dev/null || PATH=${node%/*}:$PATH
command -v pm2 >/dev/null || for d in "$HOME"/.nvm/versions/node/*/bin "$HOME"/.volta/bin "$HOME"/.npm-global/bin \\
"$HOME"/.local/bin /usr/local/bin; do [ ! -x "$d/pm2" ] || PATH=$d:$PATH; done
"""
#: The list has the whole environment of each app, secrets too: only these facts leave the server.
PICK = """\
let t="";process.stdin.on("data",d=>t+=d).on("end",()=>{
const rows=JSON.parse(t.trim().split("\\n").pop()),want=process.argv[1]
for(const a of rows){const e=a.pm2_env;if(want===undefined||a.name===want||String(a.pm_id)===want)
console.log("APP "+JSON.stringify([a.name,a.pid,e.status,e.restart_time,e.exec_mode,e.pm_uptime]))}})
"""


#: The states from which pm2 starts nothing.
_OFF = frozenset({"stopped", "errored"})


class Pm2(Kind):
    """An app, by its name or its number: all of its processes."""

    acts = True

    def check(self, name: str) -> None:
        if not re.fullmatch(r"[^\W_][^\n'\"\\/]*", name) or name == "all":
            raise ValueError(_("An app of pm2 has a name like shop (pm2 list shows all)."))

    def ask(self, name: str, where: Where) -> str:
        text = f"""{FIND}
[ -n "$node" ] || {{ echo DOWN; exit; }}
pm2 jlist 2>/dev/null | node -e {quote(PICK)} {quote(name)} 2>&1
echo END
"""
        return acting(where, text)

    def read(self, name: str, lines: Sequence[str], survey: Survey) -> Kept:
        rows = [row for line in lines[:LINES] if (row := _row(line)) is not None]
        if not rows:
            answered = "END" in lines[:LINES] and len(lines) == 1
            if answered:
                return Kept(name, NOT_FOUND, is_known=False)
            told = next((words(line) for line in lines[:LINES] if line.strip() and line != "DOWN"), "")
            problem = told or _("no pm2 of this user is running")
            return Kept(name, told or "down", is_known=False, problem=problem)
        states = [state for _pid, state, _restarts in rows]
        down = next((state for state in states if state != "online"), "")
        return Kept(
            name,
            down or "online",
            is_up=not down,
            is_off=all(state in _OFF for state in states),
            is_looping="waiting restart" in states,
            restarts=sum(restarts for _pid, _state, restarts in rows),
            main=tuple(pid for pid, _state, _restarts in rows if pid),
        )

    def evidence(self, name: str, where: Where) -> str:
        text = f"""{FIND}
[ -n "$node" ] || exit
echo '== pm2 '{quote(name)}
pm2 logs {quote(name)} --nostream --lines 30 </dev/null 2>&1
"""
        return acting(where, text)

    def missing(self, name: str) -> Told:
        return Told(
            _("There is no app %s in pm2") % name,
            _("pm2 of the user that the script runs as does not know it"),
            _("Correct its name (pm2 list shows all), start it once by “pm2 start”, or set run_as to its user."),
        )

    def unasked(self, kept: Kept) -> Told:
        return Told(
            _("The app %s of pm2 cannot be asked for") % kept.name,
            kept.problem,
            _("Start it once by “pm2 start”, or set run_as to the user whose pm2 has it."),
        )

    def act(self, name: str, where: Where, does: Does) -> str:
        told = "" if does == Does.STOP else " --update-env"
        return f"""{FIND}
[ -n "$node" ] || {{ echo 'no pm2 of this user is running' >&2; exit 1; }}
exec pm2 {_verb(does)} {quote(name)}{told}
"""

    def command(self, name: str, does: Does) -> str:
        return f"pm2 {_verb(does)} {name}"


def _verb(does: Does) -> str:
    """The command of pm2: what does not run in a cluster is restarted by `reload` too."""
    return str(does) if does in {Does.STOP, Does.START} else "reload"


def _row(line: str) -> tuple[int, str, int] | None:
    """Pid, status and restarts of a line of the answer; None for any other line."""
    if not line.startswith("APP "):
        return None
    try:
        row: Any = json.loads(line[4:LINE])
    except (ValueError, RecursionError):
        return None
    if not (isinstance(row, list) and len(row) >= 4 and isinstance(row[2], str)):
        return None
    return _count(row[1]), words(row[2]), _count(row[3])


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else 0
