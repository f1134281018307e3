#!/bin/sh
# grep on a demo server. The demo's servers share one machine's process table; on a server of its own, a look
# through /proc finds what runs there. So files of processes that were not started on this server are left out.
for real in /usr/bin/grep /bin/grep; do
    [ -x "$real" ] && break
done
case "$*" in
    *" /proc/"*) ;;
    *) exec "$real" "$@" ;;
esac
own=" $("$real" -alzxF "DEMO_SERVER=$DEMO_SERVER" /proc/[0-9]*/environ 2>/dev/null | tr '\n' ' ')"
for word in "$@"; do
    shift
    case $word in
        /proc/[0-9]*)
            process=${word#/proc/}
            case $own in
                *" /proc/${process%%/*}/environ "*) set -- "$@" "$word" ;;
            esac
            ;;
        *) set -- "$@" "$word" ;;
    esac
done
exec "$real" "$@"
