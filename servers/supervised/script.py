"""Shell text for runs that outlive the link: started once, output and exit status in files, followed by offset.

A run has a private folder ``.deployer/runs/KEY`` (mode 0700) in the login's home. Its creation is the gate: the client
that creates it starts the script, all others follow. In it:

``end``       a FIFO that the runner holds open: its followers read end-of-file at the moment it is gone,
              killed or not (a pid that nobody has reaped yet still answers to signals)
``pid``       pid, start time and boot id of the runner, the leader of the run's own session
``out`` ``err``  the output, taken down by a keeper each from ``out.pipe`` and ``err.pipe``. The script itself gets no
              file: one that writes to /dev/stderr would cut that file at each of its lines
``keepers``   the pids of the two; they outlive the signals that end the script
``code``      exit status, as soon as the script has ended: from then on nothing that it started is ended
``rc``        exit status, the sizes of both files at the script's end, and what there is to say about them: ``held``,
              what the script left running still has the pipes, and their keepers drain them to nowhere from then on;
              ``cut``, the rest could not be written: the disk is full, or the file at its limit. The last of it
              follows behind `GAP` then, as far as there is room

``pid`` and ``rc`` are a line each, written at once: there is nothing in them yet, or all of it.

Only POSIX sh, coreutils and grep are leaned on; ``setsid`` and ``tail --pid`` are used where they are. A process
costs a server more than all else here (0.6 ms of CPU, fifty servers at a time): what sh can do itself, it does.
"""

from collections.abc import Mapping
from shlex import quote

from servers.shell import RUN_MARKER, Script, as_user

#: Sets ``base``: the private folder of this login on the server.
_BASE = r"""
umask 077
base=${HOME:-}
if [ -n "$base" ] && [ -d "$base" ] && [ -w "$base" ]; then base=$base/.deployer; else base=/tmp/.deployer-$(id -u); fi
[ -d "$base" ] || mkdir "$base" 2>/dev/null
[ -O "$base" ] && [ ! -L "$base" ] || { echo "$base is not a folder of this login" >&2; exit 120; }
[ -d "$base/runs" ] || mkdir -p "$base/runs" || exit 120
"""


def private_folder() -> str:
    """Text that sets ``base`` to the private folder of this login, and its umask to 077. Exit 120: there is none."""
    return _BASE


#: Exit status of the follower when there is nothing to follow; told from the script's by the missing trailer.
NOTHING_TO_FOLLOW = 120

#: For the client that has opened the gate and sees that nothing was started: the disk may be full.
_GIVE_UP = f'{{ rm -rf "$d"; exit {NOTHING_TO_FOLLOW}; }}'

#: How long a stream may take to end after its script, before a daemon is suspected to have it: hundredths of a second.
_EOF_COMES_WITHIN = 10
#: How long the keeper of a stream that a daemon has is given to fall idle.
_PATIENCE_WITH_DAEMONS = 300

#: Bytes of each stream that are kept, and of the end of a longer one.
LIMIT, LAST = 200 << 20, 64 << 10
#: Stands in a stream between what was kept of its beginning and the last of it.
GAP = "[...]"
#: SIGXFSZ: a write beyond the limit of a file fails. Not every shell knows its name.
_XFSZ = 25

#: Folders of runs that nobody has read to their end are deleted after so many days by the server's clock.
KEPT_DAYS = 14

#: Deletes the folders that it is given, but for those whose runner is alive: a clock may be put forward by weeks.
_DELETE_ENDED = r"""read -r now </proc/sys/kernel/random/boot_id
for d in "$@"; do
pid= start= boot=
[ -s "$d/pid" ] && read -r pid start boot <"$d/pid"
if [ -n "$pid" ] && [ "$boot" = "$now" ] && read -r stat 2>/dev/null <"/proc/$pid/stat"; then
set -- ${stat##*\) }
[ "${20}" = "$start" ] && [ "$1" != Z ] && continue
fi
rm -rf "$d"
done"""


def _enter(key: str) -> str:
    """Sets ``d`` to the run's folder, and ``mine`` to nothing: the client that opens the gate sets it to yes.

    A run that was begun is where it was begun, also where the home can be written no longer, or again.
    """
    name = f"runs/{quote(key)}"
    return f"""{_BASE}d=$base/{name} mine=
[ -d "$d" ] || for other in "${{HOME:-}}"/.deployer/{name} /tmp/.deployer-*/{name}; do
[ ! -O "$other" ] || d=$other
done
"""


def runner(key: str, script: Script, limit: int = LIMIT) -> str:
    """The text of ``run.sh``: run the script in the foreground with the environment from 3, record its end.

    Of each stream, ``limit`` bytes are kept, and the `LAST` ones of a longer one; the script is not kept waiting.
    ``$1`` is the run's folder, ``$2`` the login's own umask, 4 the FIFO. The script runs in the foreground because a
    shell starts background commands with SIGINT and SIGQUIT ignored, which the application would inherit. Ending the
    script with all its processes also ends what the runner starts in the meantime: it tries again.
    """
    folder = f"cd -- {quote(script.folder)} || exit 126" if script.folder else 'cd -- "$HOME"'
    # The marker comes last: without it, half of an environment has come.
    whole = f'[ "${RUN_MARKER}" = {quote(key)} ] || {{ echo "the environment did not come whole" >&2; exit 126; }}'
    if script.run_as:  # the variables go by standard input: no list of processes shows them, and sudo drops its own
        text = f'eval "$(cat)"\n{whole}\nexec </dev/null\n{folder}\n{script.text}'
        command = f'(umask "$mask"; exec {as_user(script.run_as, text)}) <&3 3<&- 4<&-'
    else:
        command = f"""(
. /dev/fd/3
{whole}
exec 3<&- 4<&-
umask "$mask"
{folder}
{script.text}
) </dev/null"""
    return f"""d=$1 mask=$2 held= cut=
umask 077
read -r stat </proc/$$/stat
set -- ${{stat##*\\) }}
read -r boot </proc/sys/kernel/random/boot_id
printf '%s %s %s\\n' $$ "${{20}}" "$boot" >"$d/pid" || exit
exec 7<>"$d/out.pipe" 8<>"$d/err.pipe"
keep() {{
trap '' HUP TERM {_XFSZ}
exec 5<&0 3<&- 4<&- 7<&- 8<&-
ulimit -f {-(-limit // 512)} 2>/dev/null
cat <&5 >"$d/$1" 5<&- &
echo $! >"$d/$1.cat"
wait $! && exit
true >"$d/$1.cut"
true >"$d/$1.last" && exec tail -c {LAST} <&5 >"$d/$1.last" 5<&-
exec cat <&5 >/dev/null 5<&-
}}
keep out <"$d/out.pipe" & one=$!
keep err <"$d/err.pipe" & two=$!
echo $one $two >"$d/keepers"
{command} >"$d/out.pipe" 2>"$d/err.pipe" 7<&- 8<&-
code=$?
echo $code >"$d/code"
exec 7<&- 8<&-
state_of() {{
read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
set -- ${{stat##*\\) }}
state=$1
}}
for keeper in "out $one" "err $two"; do
set -- $keeper
n=0 idle=0 drop=
while state_of $2 && [ "$state" != Z ]; do
cat=
read -r cat 2>/dev/null <"$d/$1.cat"
n=$((n+1)) idle=$((idle+1))
[ $n -gt {_EOF_COMES_WITHIN} ] && state_of ${{cat:-$2}} && [ "$state" = S ] || idle=0
if [ $idle = 3 ] || [ $n = {_PATIENCE_WITH_DAEMONS} ]; then held=held drop=$cat; break; fi
sleep 0.01
done
if [ -e "$d/$1.cut" ]; then
cut=cut
trap '' {_XFSZ}
[ ! -s "$d/$1.last" ] || {{ printf '\\n%s\\n' '{GAP}'; cat "$d/$1.last"; }} >>"$d/$1"
rm -f "$d/$1.last"
fi
[ -z "$drop" ] || kill -s KILL $drop
done
n=0
until set -- $(cd -- "$d" && exec wc -c out err) && [ $# -gt 2 ] || [ $n = 9 ]; do n=$((n+1)); done
record="$code ${{1:-0}} ${{3:-0}} $held $cut"
echo "$record" >"$d/rc" || {{ rm -f "$d/run.sh" "$d/keepers"; echo "$record" >"$d/rc"; }}
"""


def environment(values: Mapping[str, str]) -> str:
    """Lines that export ``values``, quoted."""
    return "".join(f"export {name}={quote(value)}\n" for name, value in values.items())


def start(key: str, script: Script, delimiter: str, limit: int = LIMIT) -> str:
    """Start the run ``key`` unless somebody has. ``delimiter`` is a word that no line of the values equals.

    The environment shows in no list of processes, and in no file except the temporary one in which some shells keep
    such a text.
    """
    env = environment({**script.env, RUN_MARKER: key})
    return f"""mask=$(umask)
{_enter(key)}
trap : HUP
set -- "$base"/runs/*
[ ! -e "$1" ] || find "$base/runs" -mindepth 1 -maxdepth 1 -mtime +{KEPT_DAYS} \
-exec sh -c {quote(_DELETE_ENDED)} sh {{}} + 2>/dev/null
begin() {{
"$@" sh "$d/run.sh" "$d" "$mask" </dev/null >/dev/null 2>&1 4<&4 3<<'{delimiter}'
{env}{delimiter}
}}
if mkdir "$d" 2>/dev/null; then
mine=yes
true >"$d/out" && true >"$d/err" && mkfifo -m 622 "$d/end" "$d/out.pipe" "$d/err.pipe" || {_GIVE_UP}
printf %s {quote(runner(key, script, limit))} >"$d/run.sh" || {_GIVE_UP}
exec 4<>"$d/end"
if begin setsid -f; then :
elif command -v setsid >/dev/null 2>&1; then begin setsid &
else begin nohup &
fi
exec 4<&-
fi
"""


def follow(key: str, trailer: str, out_from: int, err_from: int, begin: str = "") -> str:
    """Print the run's output from the given offsets until it ends, then NUL, ``trailer`` and its record.

    Before it, NUL, ``trailer`` and a newline on both streams: what came earlier is the login's own noise.
    The record is that of ``rc``; without one, ``lost`` when the runner is gone, ``rebooted`` when the
    machine was restarted since. ``begin`` is the text of `start` where it may have to be started first.
    """
    return f"""{begin or _enter(key)}
printf '\\0%s\\n' {quote(trailer)}
printf '\\0%s\\n' {quote(trailer)} >&2
[ -d "$d" ] || {{ echo "there is no run {key}" >&2; exit {NOTHING_TO_FOLLOW}; }}
n=0 boot= now=
[ "$mine" ] || while [ ! -s "$d/pid" ] && [ ! -s "$d/rc" ] && [ $n -lt 100 ]; do n=$((n+1)); sleep 0.05; done
alive() {{
[ -s "$d/pid" ] || return 1
read -r pid start boot <"$d/pid"
read -r now </proc/sys/kernel/random/boot_id
[ "$boot" = "$now" ] && read -r stat 2>/dev/null <"/proc/$pid/stat" || return 1
set -- ${{stat##*\\) }}
[ "${{20}}" = "$start" ] && [ "$1" != Z ]
}}
if [ ! -s "$d/rc" ] && {{ [ "$mine" ] || alive; }}; then
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
[ -s "$d/pid" ] || [ -z "$mine" ] || {_GIVE_UP}
else
tail -c +{out_from + 1} "$d/out"
tail -c +{err_from + 1} "$d/err" >&2
fi
record=lost
[ -s "$d/pid" ] && read -r _ _ boot <"$d/pid" && read -r now </proc/sys/kernel/random/boot_id
[ "$boot" = "$now" ] || record=rebooted
[ -s "$d/rc" ] && read -r record <"$d/rc"
printf '\\0%s %s\\n' {quote(trailer)} "$record"
"""


def rest(key: str, name: str, begin: int, count: int) -> str:
    """Print ``count`` bytes of the run's ``out`` or ``err`` from the offset ``begin``."""
    return f"""{_enter(key)}
tail -c +{begin + 1} "$d"/{quote(name)} | head -c {count}
"""


def kill(key: str, patience: int = 3, run_as: str = "") -> str:
    """End the script of the run and everything below it, the runner itself last so that it records the end.

    Members are found by the run's session and by its key in their environment; those of another user are asked for and
    signalled as that user. A session whose number somebody else has by now is none of ours. Once the script has ended
    (``code`` is there) nothing is touched: what still runs then is the application that it started.
    Prints ``ended`` or ``killed``.
    """
    marked = f"grep -la {quote(f'{RUN_MARKER}={key}')} /proc/[0-9]*/environ 2>/dev/null"
    theirs = f"; {as_user(run_as, marked)}" if run_as else ""
    or_as_user = f' || sudo -n -u {quote(run_as)} -- kill -s "$1" "$p" 2>/dev/null' if run_as else ""
    return f"""{_enter(key)}
n=0
while [ -s "$d/code" ] && [ ! -s "$d/rc" ] && [ $n -lt 200 ]; do n=$((n+1)); sleep 0.05; done
[ ! -s "$d/code" ] && [ ! -s "$d/rc" ] || {{ echo ended; exit 0; }}
[ -s "$d/pid" ] || {{ mkdir "$d" 2>/dev/null && {{ echo never; exit 0; }}; sleep 1; }}
pid= now=
[ -s "$d/pid" ] && read -r pid start boot <"$d/pid"
[ -n "$pid" ] || {{ echo never; exit 0; }}
session=$pid
read -r now </proc/sys/kernel/random/boot_id
[ "$boot" = "$now" ] || session=none
if read -r stat 2>/dev/null <"/proc/$pid/stat"; then
set -- ${{stat##*\\) }}
[ "${{20}}" = "$start" ] || session=none
fi
keepers=
[ -s "$d/keepers" ] && read -r keepers <"$d/keepers"
members() {{
for file in /proc/[0-9]*/stat; do
read -r stat 2>/dev/null <"$file" || continue
set -- ${{stat##*\\) }}
[ "$1" = Z ] && continue
[ "$4" = "$session" ] || continue
file=${{file#/proc/}}
case " $keepers " in *" $2 "*) continue ;; esac
case " $pid $keepers " in *" ${{file%/stat}} "*) continue ;; esac
echo "${{file%/stat}}"
done
{{ {marked}{theirs}; }} | while read -r file; do
file=${{file#/proc/}}; echo "${{file%/environ}}"
done
}}
signal() {{ for p in $(members); do kill -s "$1" "$p" 2>/dev/null{or_as_user}; done; }}
signal TERM
signal CONT
n=0
while [ $n -lt {patience * 10} ] && [ ! -s "$d/rc" ] && [ -n "$(members)" ]; do n=$((n+1)); sleep 0.1; done
n=0
while [ $n -lt 50 ] && [ -n "$(members)" ]; do n=$((n+1)); signal KILL; sleep 0.05; done
n=0
while [ ! -s "$d/rc" ] && {{ [ $n -lt 20 ] || [ -s "$d/code" ] && [ $n -lt 150 ]; }}; do n=$((n+1)); sleep 0.05; done
[ -s "$d/rc" ] || [ $session = none ] || kill -s KILL "$pid" 2>/dev/null
echo killed
"""


#: One at a time, where the server has flock: what is looked at under it is still so when it is acted on.
_ONE_AT_A_TIME = """exec 9>>"$base/gate.lock"
flock 9 2>/dev/null
"""


def close_gate(key: str) -> str:
    """Prevent the run from ever being started. Prints ``never`` or, if it was already started, ``started``."""
    return f"""{_enter(key)}{_ONE_AT_A_TIME}
if mkdir "$d" 2>/dev/null; then echo never; elif [ -d "$d" ]; then echo started; else exit 120; fi
"""


def only_before(key: str) -> str:
    """Text that ends what follows it with status 7 once the run's gate is closed; it cannot close in between."""
    return f"""mask=$(umask)
{_enter(key)}{_ONE_AT_A_TIME}
umask "$mask"
[ ! -e "$d" ] || exit 7
"""


def forget(key: str) -> str:
    """Delete the run's folder, once its output has been read whole."""
    return f"""{_enter(key)}
rm -rf "$d"
"""
