"""Following the logs of an application: shell text that prints their end and what comes, for a while and no longer.

It ends when its login does, whoever keeps it running: nothing is left on the server.
"""

from collections.abc import Callable, Mapping
from shlex import quote
from types import MappingProxyType

from django.utils.translation import gettext as _

from projects.commands.kept import Kept
from projects.commands.service import in_shell
from projects.commands.services import docker, pm2, supervisor
from projects.commands.services.kind import DENIED, Told, Where, acting
from projects.commands.services.kinds import KINDS

#: Lines of the end of a log that are shown first.
FIRST_LINES = 200
#: Statuses by which it is said that there is no such log, that this user may not read it, that it is no file, or that
#: its keeper keeps none at all.
NO_LOG, NOT_READABLE, NO_FILE, NOT_KEPT = 64, 65, 66, 67
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
    """The journal of a unit of the system, else of this user's own.

    Asked for its last entry, journalctl says whether this user sees it all. Who sees a part has what is their own: a
    unit that runs as them. That there is no entry is shown in its words; followed from its end, it would lose the first
    ones that come.
    """
    unit = quote(name)
    return f"""case $(systemctl show -p LoadState -- {unit} 2>/dev/null) in
*=loaded*|*=masked*) of=-u ;;
*) case $(systemctl --user show -p LoadState -- {unit} 2>/dev/null) in
*=loaded*|*=masked*) of=--user-unit ;;
*) exit {NO_LOG} ;; esac ;;
esac
case $(journalctl --no-pager -n 1 $of {unit} 2>&1) in
*'nsufficient permissions'*|*'not seeing messages'*'-- No entries --'*) exit {NOT_READABLE} ;;
*'No journal files were found'*) exit {NOT_KEPT} ;;
*'-- No entries --'*) echo '-- No entries --'; last=all ;;
*) last={FIRST_LINES} ;;
esac
run journalctl --no-pager -q -o short-iso -n $last -f $of {unit}
"""


def _supervisor(name: str, _where: Where) -> str:
    """What a program has printed, on both streams."""
    control, program = supervisor.control_of(name), supervisor.program_of(name)
    return f"""case $({control} status {program} 2>&1) in
*'no such'*) exit {NO_LOG} ;;
*ermission*|*denied*) exit {NOT_READABLE} ;;
*'refused connection'*|*'no such file'*|*'not found'*) exit {NOT_KEPT} ;;
esac
run {control} tail -f {program} stdout
run {control} tail -f {program} stderr
"""


def _pm2(name: str, _where: Where) -> str:
    """What an app has printed; pm2 itself knows where that is kept. It waits for ever for an app that is not there."""
    return f"""{pm2.FIND}
[ -n "$node" ] || exit {NO_LOG}
case $(pm2 jlist 2>/dev/null | node -e {quote(pm2.PICK)} {quote(name)} 2>/dev/null) in APP*) ;; *) exit {NO_LOG} ;; esac
run pm2 logs {quote(name)} --lines {FIRST_LINES}
"""


#: The log of one container, and of its next lives: that of one ends with it.
_BOX = f"""begun() {{
$docker inspect --type container --format '{{{{json .State.StartedAt}}}}' $1 2>/dev/null | tr -d '"'
}}
box() {{
trap 'kill $c 2>/dev/null; exit' TERM
life=$(begun $1)
from='--tail {FIRST_LINES}'
while :; do
$docker logs $from -f $1 & c=$!
wait $c
while [ "$(begun $1)" = "$life" ]; do
sleep 1 & c=$!
wait $c
done
life=$(begun $1)
[ -n "$life" ] || return
from="--since $life"
done
}}
"""


def _docker(name: str, _where: Where) -> str:
    """What a container, or each of those of a service, has printed."""
    return f"""{docker.FIND}sudo=
said=$(LC_ALL=C $docker ps 2>&1) || case $said in {DENIED}) exit {NOT_READABLE} ;; *) exit {NOT_KEPT} ;; esac
ids={docker.ids_of(name)}
[ -n "$ids" ] || exit {NO_LOG}
{_BOX}for id in $ids; do
[ -n "$(begun $id)" ] || exit {NO_LOG}
run box $id
done
"""


_SOURCES: Mapping[str, Callable[[str, Where], str]] = MappingProxyType(
    {"file": _file, "systemd": _journal, "supervisor": _supervisor, "pm2": _pm2, "docker": _docker}
)
#: The kinds of services whose logs their keepers have.
FOLLOWED = frozenset(_SOURCES) - {"file"}


def told(kind: str, name: str, code: int, user: str) -> Told | None:
    """What is wrong where following ended with ``code``, and the remedy; nothing where the log itself has ended.

    ``user`` is who was to read it.
    """
    if code == NO_LOG and kind in KINDS:
        return KINDS[kind].missing(name)
    if code == NO_LOG:
        return Told(_("There is no log %s on the server") % name, "", _("Correct its path in the project."))
    if code == NO_FILE:
        return Told(_("%s is not a file") % name, "", _("Correct its path in the project."))
    if code == NOT_READABLE:
        return Told(_("The log %s cannot be read") % name, _("%s may not") % user, _remedy(kind, user))
    if code == NOT_KEPT:
        return _not_kept(kind, name)
    return None


def _remedy(kind: str, user: str) -> str:
    remedies = {
        "systemd": _(
            "Add the user to the group systemd-journal, or to adm: “usermod -aG systemd-journal %s”. It holds from the "
            "next login on."
        ),
        "docker": _("Add the user to the group docker: “usermod -aG docker %s”. It holds from the next login on."),
        "supervisor": _("Let %s speak to supervisor: chmod and chown of its socket, in [unix_http_server]."),
    }
    if kind in remedies:
        return remedies[kind] % user
    return _("Let it read the log: by its group, or by run_as.")


def _not_kept(kind: str, name: str) -> Told:
    if kind == "systemd":
        return Told(
            _("There is no journal on the server, so none of %s") % name,
            _("journald keeps none"),
            _("Set Storage=persistent in /etc/systemd/journald.conf, and restart systemd-journald."),
        )
    return KINDS[kind].unasked(Kept(KINDS[kind].title(name), problem=_("it does not answer")))
