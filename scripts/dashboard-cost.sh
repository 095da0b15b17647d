#!/bin/bash
# What the dashboard costs: CPU of the daemon, hearing the bundled recording in real time, with nobody looking, with
# live views open, and after they are closed; 40 s each.   usage: dashboard-cost.sh [PROGRAM]
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-target/release/hearken}
work=$(mktemp -d)
views=()
stop_views() { [ ${#views[@]} -eq 0 ] || kill "${views[@]}" 2>/dev/null || true; views=(); }
trap 'stop_views; kill "$daemon" 2>/dev/null || true; rm -rf "$work"' EXIT
port=${PORT:-18787}
HEARKEN_STORE__FOLDER=$work/state HEARKEN_DASHBOARD__LISTEN=127.0.0.1:$port HEARKEN_MQTT__ENABLED=false \
    "$program" run --repeat --file assets/soundscape.ogg > /dev/null 2> "$work/log" &
daemon=$!
sleep 12
ticks() { awk '{ print $14 + $15 }' "/proc/$daemon/stat"; }
measure() {
    local before after
    before=$(ticks)
    sleep 40
    after=$(ticks)
    awk -v what="$1" -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" \
        'BEGIN { printf "%s: %.2f %% of a core\n", what, 100 * ticks / hz / 40 }'
}
look() { curl -sN --noproxy '*' "http://127.0.0.1:$port/api/live" > "$work/$1" & views+=($!); }
measure "nobody looks"
look one
measure "one live view"
echo "it got $(($(stat -c %s "$work/one") / 40)) bytes a second"
look two
measure "two live views"
stop_views
measure "nobody looks any more"
