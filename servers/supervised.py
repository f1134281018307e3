"""Shell text for runs that outlive the link: started once, output and exit status in files, followed by offset.

A run has a private folder ``.deployer/runs/KEY`` (mode 0700) in the login's home:

``started``   a folder whose making is the gate: whoever makes it starts the script, everybody else follows
``end``       a FIFO that the runner holds open: its followers read end-of-file at the moment it is gone,
              killed or not (a pid that nobody has reaped yet still answers to signals)
``pid``       pid, start time and boot id of the runner, the leader of the run's own session
``out`` ``err``  the output; a daemon that the script leaves behind goes on writing there
``rc``        exit status and the sizes of both files at the script's end, renamed into place whole

Only POSIX sh, coreutils and grep are leaned on; ``setsid`` and ``tail --pid`` are used where they are.
"""

from collections.abc import Mapping
from shlex import quote

from servers.shell import RUN_MARKER, Script, as_user

#: Sets ``base``: the private folder of this login on the server.
_BASE = r"""
mask=$(umask)
umask 077
base=${HOME:-}
if [ -n "$base" ] && [ -d "$base" ] && [ -w "$base" ]; then base=$base/.deployer; else base=/tmp/.deployer-$(id -u); fi
[ -d "$base" ] || mkdir "$base" 2>/dev/null
[ -O "$base" ] && [ ! -L "$base" ] || { echo "$base is not a folder of this login" >&2; exit 120; }
mkdir -p "$base/runs" || exit 120
"""

#: Exit status of the follower when there is nothing to follow; told from the script's by the missing trailer.
NOTHING_TO_FOLLOW = 120


#: Folders of runs that nobody has read to their end are deleted after so many days.
KEPT_DAYS = 14


def runner(script: Script) -> str:
    """The text of ``run.sh``: take in the environment, run the script in the foreground, record its end.

    ``$1`` is the run's folder, ``$2`` the login's own umask. The script runs in the foreground because a
    shell starts background commands with SIGINT and SIGQUIT ignored, which the application would inherit.
    """
    folder = f"cd -- {quote(script.folder)} || exit 126" if script.folder else 'cd -- "$HOME"'
    if script.run_as:  # the variables go by standard input: no list of processes shows them, and sudo drops its own
        text = f'eval "$(cat)"\nexec </dev/null\n{folder}\n{script.text}'
        command = f'(umask "$mask"; exec {as_user(script.run_as, text)}) <&3 3<&- 4<&-'
    else:
        command = f"""(
. /dev/fd/3
exec 3<&- 4<&-
umask "$mask"
{folder}
{script.text}
) </dev/null"""
    return f"""d=$1 mask=$2
umask 077
read -r stat </proc/$$/stat
set -- ${{stat##*) }}
read -r boot </proc/sys/kernel/random/boot_id
exec 4<>"$d/end"
printf '%s %s %s\\n' $$ "${{20}}" "$boot" >"$d/pid.tmp" && mv "$d/pid.tmp" "$d/pid"
exec 3<"$d/env"
rm -f "$d/env"
{command} >"$d/out" 2>"$d/err"
code=$?
printf '%s %s %s\\n' "$code" "$(wc -c <"$d/out")" "$(wc -c <"$d/err")" >"$d/rc.tmp" && mv "$d/rc.tmp" "$d/rc"
"""


def environment(values: Mapping[str, str]) -> str:
    """Lines that export ``values``, quoted; read from a private file that is deleted before it is read."""
    return "".join(f"export {name}={quote(value)}\n" for name, value in values.items())


def start(key: str, script: Script, delimiter: str) -> str:
    """Start the run ``key`` unless somebody has. ``delimiter`` is a word that no line of the values equals."""
    env = environment({**script.env, RUN_MARKER: key})
    # Half an environment or half a script must not be run: the disk may be full.
    give_up = f'{{ rm -rf "$d"; exit {NOTHING_TO_FOLLOW}; }}'
    return f"""{_BASE}
trap : HUP
d=$base/runs/{quote(key)}
find "$base/runs" -mindepth 1 -maxdepth 1 -mtime +{KEPT_DAYS} -exec rm -rf {{}} + 2>/dev/null
mkdir -p "$d"
if mkdir "$d/started" 2>/dev/null; then
: >"$d/out"; : >"$d/err"; mkfifo "$d/end" || {give_up}
cat >"$d/env" <<'{delimiter}' || {give_up}
{env}{delimiter}
cat >"$d/run.sh" <<'{delimiter}' || {give_up}
{runner(script)}{delimiter}
if setsid -f true 2>/dev/null; then
setsid -f sh "$d/run.sh" "$d" "$mask" </dev/null >/dev/null 2>&1
elif command -v setsid >/dev/null 2>&1; then
setsid sh "$d/run.sh" "$d" "$mask" </dev/null >/dev/null 2>&1 &
else
nohup sh "$d/run.sh" "$d" "$mask" </dev/null >/dev/null 2>&1 &
fi
fi
"""


def follow(key: str, trailer: str, out_from: int, err_from: int) -> str:
    """Print the run's output from the given offsets until it ends, then NUL, ``trailer`` and its record.

    Before it, NUL, ``trailer`` and a newline on both streams: what came earlier is the login's own noise.
    The record is ``CODE OUT_SIZE ERR_SIZE``; without one, ``lost`` when the runner is gone, ``rebooted`` when the
    machine was restarted since.
    """
    return f"""{_BASE}
printf '\\0%s\\n' {quote(trailer)}
printf '\\0%s\\n' {quote(trailer)} >&2
d=$base/runs/{quote(key)}
[ -d "$d/started" ] || {{ echo "there is no run {key}" >&2; exit {NOTHING_TO_FOLLOW}; }}
n=0 boot= now=
while [ ! -s "$d/pid" ] && [ ! -e "$d/rc" ] && [ $n -lt 100 ]; do n=$((n+1)); sleep 0.05; done
alive() {{
[ -s "$d/pid" ] || return 1
read -r pid start boot <"$d/pid"
read -r now </proc/sys/kernel/random/boot_id
[ "$boot" = "$now" ] && read -r stat 2>/dev/null <"/proc/$pid/stat" || return 1
set -- ${{stat##*) }}
[ "${{20}}" = "$start" ] && [ "$1" != Z ]
}}
if [ ! -e "$d/rc" ] && alive; then
exec 5<>"$d/end"
exec 6<"$d/end"
exec 5<&-
(read -r _ <&6) & waiter=$!
if tail --pid=$$ -n 0 /dev/null 2>/dev/null; then
tail -s 0.02 --pid=$waiter -c +{out_from + 1} -f "$d/out" 2>/dev/null 6<&- & one=$!
tail -s 0.02 --pid=$waiter -c +{err_from + 1} -f "$d/err" >&2 2>/dev/null 6<&- & two=$!
wait $waiter
wait $one $two
else
tail -c +{out_from + 1} -f "$d/out" 6<&- & one=$!
tail -c +{err_from + 1} -f "$d/err" >&2 6<&- & two=$!
wait $waiter
sleep 1.2
kill $one $two 2>/dev/null
wait
fi
else
tail -c +{out_from + 1} "$d/out"
tail -c +{err_from + 1} "$d/err" >&2
fi
record=lost
[ -s "$d/pid" ] && read -r _ _ boot <"$d/pid" && read -r now </proc/sys/kernel/random/boot_id
[ "$boot" = "$now" ] || record=rebooted
[ -e "$d/rc" ] && read -r record <"$d/rc"
printf '\\0%s %s\\n' {quote(trailer)} "$record"
"""


def rest(key: str, name: str, begin: int, count: int) -> str:
    """Print ``count`` bytes of the run's ``out`` or ``err`` from the offset ``begin``."""
    return f"""{_BASE}
tail -c +{begin + 1} "$base/runs/"{quote(key)}/{quote(name)} | head -c {count}
"""


def kill(key: str, patience: int = 3, run_as: str = "") -> str:
    """End the script of the run and everything below it, the runner itself last so that it records the end.

    Members are found by the run's session and by its key in their environment; those of another user are asked for and
    signalled as that user. Once the script has ended
    (``rc`` is there) nothing is touched: what still runs then is the application that it started.
    Prints ``ended`` or ``killed``.
    """
    marked = f"grep -la {quote(f'{RUN_MARKER}={key}')} /proc/[0-9]*/environ 2>/dev/null"
    theirs = f"; {as_user(run_as, marked)}" if run_as else ""
    or_as_user = f' || sudo -n -u {quote(run_as)} -- kill -s "$1" "$p" 2>/dev/null' if run_as else ""
    return f"""{_BASE}
d=$base/runs/{quote(key)}
[ -e "$d/rc" ] && {{ echo ended; exit 0; }}
[ -s "$d/pid" ] || {{ mkdir -p "$d" && mkdir "$d/started" 2>/dev/null && {{ echo never; exit 0; }}; sleep 1; }}
pid=
[ -s "$d/pid" ] && read -r pid start boot <"$d/pid"
[ -n "$pid" ] || {{ echo never; exit 0; }}
members() {{
for file in /proc/[0-9]*/stat; do
read -r stat 2>/dev/null <"$file" || continue
set -- ${{stat##*) }}
[ "$1" = Z ] && continue
if [ "$4" = "$pid" ]; then file=${{file#/proc/}}; [ "${{file%/stat}}" = "$pid" ] || echo "${{file%/stat}}"; fi
done
{{ {marked}{theirs}; }} | while read -r file; do
file=${{file#/proc/}}; echo "${{file%/environ}}"
done
}}
signal() {{ for p in $(members); do kill -s "$1" "$p" 2>/dev/null{or_as_user}; done; }}
signal TERM
signal CONT
n=0
while [ $n -lt {patience * 10} ] && [ ! -e "$d/rc" ] && [ -n "$(members)" ]; do n=$((n+1)); sleep 0.1; done
n=0
while [ $n -lt 50 ] && [ -n "$(members)" ]; do n=$((n+1)); signal KILL; sleep 0.05; done
n=0
while [ ! -e "$d/rc" ] && [ $n -lt 20 ]; do n=$((n+1)); sleep 0.05; done
[ -e "$d/rc" ] || kill -s KILL "$pid" 2>/dev/null
echo killed
"""


#: One at a time, where the server has flock: what is looked at under it is still so when it is acted on.
_ONE_AT_A_TIME = """exec 9>>"$base/gate.lock"
flock 9 2>/dev/null
"""


def close_gate(key: str) -> str:
    """See to it that the run is never started from now on. Prints ``never`` or, if it was already, ``started``."""
    return f"""{_BASE}{_ONE_AT_A_TIME}
mkdir -p "$base/runs/"{quote(key)}
if mkdir "$base/runs/"{quote(key)}/started 2>/dev/null; then echo never; else echo started; fi
"""


def only_before(key: str) -> str:
    """Text that ends what follows it with status 7 once the run's gate is closed; it is not closed meanwhile."""
    return f"""{_BASE}{_ONE_AT_A_TIME}
umask "$mask"
[ ! -e "$base/runs/"{quote(key)}/started ] || exit 7
"""


def remove(key: str) -> str:
    """Delete the run's folder, once its output has been read whole."""
    return f"""{_BASE}
rm -rf "$base/runs/"{quote(key)}
"""
