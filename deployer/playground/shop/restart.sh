#!/usr/bin/env bash
# Stops the shop that runs and starts the one in this folder. Returns when the new one listens.
set -euo pipefail
pid_file="$HOME/shop.pid"

is_shop() { [ -r "/proc/$1/cmdline" ] && tr '\0' ' ' <"/proc/$1/cmdline" | grep -q 'shop\.py'; }

if [ -s "$pid_file" ]; then
    old=$(cat "$pid_file")
    if is_shop "$old"; then
        echo "Stopping process $old"
        kill "$old"
        for _ in $(seq 100); do
            is_shop "$old" || break
            sleep 0.05
        done
        if is_shop "$old"; then kill -9 "$old"; fi
    fi
fi

nohup python3 shop.py >>"$HOME/shop.log" 2>&1 </dev/null &
new=$!
echo "$new" >"$pid_file"
for _ in $(seq 100); do
    if (: <>"/dev/tcp/127.0.0.1/$SHOP_PORT") 2>/dev/null; then
        echo "Started process $new on port $SHOP_PORT"
        exit 0
    fi
    kill -0 "$new" 2>/dev/null || break
    sleep 0.05
done
echo "The shop did not start:" >&2
tail -n 20 "$HOME/shop.log" >&2
exit 1
