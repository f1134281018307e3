"""Apps that pm2 keeps running."""

import json
import re
from collections.abc import Sequence
from shlex import quote
from typing import Any

from django.utils.translation import gettext as _

from projects.commands.kept import NOT_FOUND, Kept
from projects.commands.processes import Survey
from projects.commands.service import in_shell
from projects.commands.services.kind import LINE, LINES, Does, Kind, Told, Where, acting, words

#: pm2 is found as its daemon found node: a session without a terminal has not the path of nvm and its like. Where no
#: daemon is alive nobody is asked, for `pm2` would start one.
FIND = """\
home=${PM2_HOME:-$HOME/.pm2}
god=
[ ! -r "$home/pm2.pid" ] || read -r god <"$home/pm2.pid"
node=$(readlink "/proc/${god:-0}/exe" 2>/dev/null) || :
command -v pm2 >/dev/null || [ -z "$node" ] || PATH=${node%/*}:$PATH
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

#: The app as the live release has it, for pm2: by a configuration of pm2 in it, else by its package.json. pm2 keeps the
#: folder that an app was first started in, and starts it there for ever: it is told `current`, and not the release
#: that this leads to. What the restart has in its environment reaches the app by none but this way.
_CONFIG = """\
const fs=require("fs"),path=require("path"),{DEPLOYER_APP:name,DEPLOYER_CURRENT:here,...own}=process.env;
for(const word of ["PWD","OLDPWD","SHLVL","_"])delete own[word];
const real=fs.realpathSync(here),live=p=>(p+"/").startsWith(real+"/")?here+p.slice(real.length):p;
const read=file=>fs.existsSync(path.join(here,file))?require(path.join(here,file)):undefined;
const files=["ecosystem.config.js","ecosystem.config.cjs","pm2.config.js","pm2.config.cjs","ecosystem.json",
"pm2.json","process.json"];
let app;
for(const file of files)if(!app){const all=read(file);app=all&&[].concat(all.apps||all).find(a=>a.name===name)}
const isNamed=!!app,it=!app&&read("package.json");
if(it){const start=(it.scripts||{}).start||"",plain=/^(?:NODE_ENV=(\\w+) )?node (\\S+)$/.exec(start);
app=plain?{script:plain[2],env:plain[1]?{NODE_ENV:plain[1]}:{}}:start?{script:"npm",args:"start"}
:{script:it.main||"index.js"}}
const at=a=>({...a,name,script:live(a.script||""),cwd:live(path.resolve(here,a.cwd||".")),env:{...own,...a.env}});
module.exports={apps:app?[at(app)]:[],isNamed,here,real};
"""
#: What is to be done with it, in a word; behind the last one, the folder that pm2 keeps it in.
_STATE = """\
const {apps,isNamed,here,real}=require(process.argv[1]),path=require("path"),fs=require("fs");
let t="";process.stdin.on("data",d=>t+=d).on("end",()=>{
const name=process.env.DEPLOYER_APP,all=JSON.parse(t.trim().split("\\n").pop()||"[]");
const mine=all.filter(a=>a.name===name||String(a.pm_id)===name);
const above=[path.dirname(here),fs.realpathSync(path.dirname(here))].map(p=>p+"/releases/");
const old=mine.flatMap(a=>[a.pm2_env.pm_cwd,a.pm2_env.pm_exec_path]).find(p=>p&&!(p+"/").startsWith(real+"/")
&&above.some(folder=>p.startsWith(folder)));
console.log(isNamed?old?"again":"config":mine.length?old?"old "+old:"reload":apps.length?"config":"none")})
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
            _(
                "Correct its name (pm2 list shows all), or set run_as to its user. A full deployment starts it, by the "
                "release’s ecosystem.config.js or package.json."
            ),
        )

    def unasked(self, kept: Kept) -> Told:
        return Told(
            _("The app %s of pm2 cannot be asked for") % kept.name,
            kept.problem,
            _(
                "Set run_as to the user whose pm2 has it. A full deployment starts it, by the release’s "
                "ecosystem.config.js or package.json."
            ),
        )

    def act(self, name: str, where: Where, does: Does) -> str:
        told = "" if does == Does.STOP else " --update-env"
        plain = f"pm2 {_verb(does)} {quote(name)}{told}"
        if does == Does.STOP or not where.folder:
            return f"""{FIND}
[ -n "$node" ] || {{ echo 'no pm2 of this user is running' >&2; exit 1; }}
exec {plain}
"""
        return f"""{FIND}
export DEPLOYER_APP={quote(name)} DEPLOYER_CURRENT={in_shell(where.folder)}/current
made=$(mktemp -d) && file=$made/app.config.js || exit 1
trap 'rm -rf -- "$made"' EXIT
printf %s {quote(_CONFIG)} >"$file"
does=$({{ [ -z "$node" ] || pm2 jlist 2>/dev/null; }} | node -e {quote(_STATE)} "$file") || exit 1
case $does in
again) pm2 delete {quote(name)} && pm2 start "$file" ;;
config) pm2 startOrReload "$file" --update-env ;;
reload) (unset DEPLOYER_APP DEPLOYER_CURRENT; exec {plain}) ;;
none) echo 'pm2 has no such app, and the release has neither ecosystem.config.js nor package.json' >&2; exit 1 ;;
*) echo "pm2 would start it in ${{does#old }} again: end it by pm2 delete, and deploy once more" >&2; exit 1 ;;
esac
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
