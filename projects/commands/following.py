"""Following the logs of an application: shell text that prints their end and what comes, for a while and no longer.

It ends when its login does, whoever keeps it running: nothing is left on the server.
"""

from collections.abc import Callable, Mapping
from shlex import quote
from types import MappingProxyType

from projects.commands.service import in_shell
from projects.commands.services import docker, pm2, supervisor
from projects.commands.services.kind import Where, acting

#: Lines of the end of a log that are shown first.
FIRST_LINES = 200
#: Statuses by which it is said that there is no such log, that this user may not read it, or that it is no file.
NO_LOG, NOT_READABLE, NO_FILE = 64, 65, 66
#: What runs beside the leash; ``run`` begins one of them.
_HELD = """run() { "$@" & pids="$pids $!"; }
pids=
"""
#: While there is a beat a second, and something is still running, it goes on; at the end, all of it is ended.
_LEASH = """
while read -r beat; do
alive=
for p in $pids; do kill -0 $p 2>/dev/null && alive=yes; done
[ "$alive" ] || break
done
exec 2>/dev/null
[ -z "$pids" ] || kill $pids
wait $pids
exit
"""


def follow(kind: str, name: str, where: Where, seconds: int) -> str:
    """Follow the log for at most so many seconds, and no longer than the login that runs this is there."""
    text = acting(where, f"{_HELD}{_SOURCES[kind](name, where)}{_LEASH}")
    return f"""since=
parent() {{
read -r stat 2>/dev/null <"/proc/$PPID/stat" || return 1
set -- ${{stat##*\\) }}
[ "$1" != Z ] && since=${{since:-${{20}}}} && [ "$since" = "${{20}}" ]
}}
beats() {{
trap '' PIPE
n=0
while [ $n -lt {seconds} ] && parent && echo beat 2>/dev/null; do n=$((n+1)); sleep 1; done
}}
beats | {text}"""


def _file(path: str, where: Where) -> str:
    """The end of a file, whatever takes its place by that name."""
    if not path.startswith(("/", "~/")):
        path = f"{where.folder.rstrip('/')}/{path}"
    log = in_shell(path)
    return f"""[ -e {log} ] || exit {NO_LOG}
[ -r {log} ] || exit {NOT_READABLE}
[ -f {log} ] || exit {NO_FILE}
run tail -n {FIRST_LINES} -F -- {log}
"""


def _journal(name: str, _where: Where) -> str:
    """The journal of a unit of the system, else of this user's own."""
    unit = quote(name)
    shown = f"run journalctl --no-pager -q -o short-iso -n {FIRST_LINES} -f"
    return f"""case $(systemctl show -p LoadState -- {unit} 2>/dev/null) in
*=loaded*|*=masked*) {shown} -u {unit} ;;
*) case $(systemctl --user show -p LoadState -- {unit} 2>/dev/null) in
*=loaded*|*=masked*) {shown} --user-unit {unit} ;;
*) exit {NO_LOG} ;; esac ;;
esac
"""


def _supervisor(name: str, _where: Where) -> str:
    """What a program has printed, on both streams."""
    control, program = supervisor.control_of(name), supervisor.program_of(name)
    return f"""case $({control} status {program} 2>&1) in
*'no such'*) exit {NO_LOG} ;;
*ermission*|*denied*|*'refused connection'*|*'no such file'*) exit {NOT_READABLE} ;;
esac
run {control} tail -f {program} stdout
run {control} tail -f {program} stderr
"""


def _pm2(name: str, _where: Where) -> str:
    """What an app has printed; pm2 itself knows where that is kept."""
    return f"""{pm2.FIND}
[ -n "$node" ] || exit {NO_LOG}
run pm2 logs {quote(name)} --lines {FIRST_LINES}
"""


def _docker(name: str, _where: Where) -> str:
    """What a container, or each of those of a service, has printed."""
    return f"""{docker.FIND}sudo=
$docker ps >/dev/null 2>&1 || exit {NOT_READABLE}
ids={docker.ids_of(name)}
[ -n "$ids" ] || exit {NO_LOG}
for id in $ids; do
$docker inspect --type container $id >/dev/null 2>&1 || exit {NO_LOG}
run $docker logs --tail {FIRST_LINES} -f $id
done
"""


_SOURCES: Mapping[str, Callable[[str, Where], str]] = MappingProxyType(
    {"file": _file, "systemd": _journal, "supervisor": _supervisor, "pm2": _pm2, "docker": _docker}
)
#: The kinds of services whose logs their keepers have.
FOLLOWED = frozenset(_SOURCES) - {"file"}
