#!/bin/bash
# Proof over a long time, in two parts, which an argument chooses from: `sound`, a day of it through
# the daemon as fast as it goes, with what it takes of the machine watched, and its events compared
# with those of `classify`; and `inputs`, over a million cases for the parsers of outside bytes.
# HOURS and CASES change the lengths.
set -euo pipefail
cd "$(dirname "$0")/.."
part=${1:-all}

sound() {
    hours=${HOURS:-24}
    hearken=target/release/hearken
    work=$(mktemp -d)
    pid=
    trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT

    length=$(ffprobe -v error -show_entries format=duration -of csv=p=0 assets/soundscape.ogg)
    repeats=$(awk -v hours="$hours" -v one="$length" 'BEGIN { print int(hours * 3600 / one) }')
    for _ in $(seq "$repeats"); do echo "file '$PWD/assets/soundscape.ogg'"; done > "$work/list"
    ffmpeg -v error -f concat -safe 0 -i "$work/list" -ac 1 -ar 32000 "$work/long.flac"

    SECONDS=0
    HEARKEN_STORE__FOLDER=$work/state $hearken run --json --file "$work/long.flac" --fast \
        --set mqtt.embedded_port=18839 > "$work/events" 2> "$work/log" &
    pid=$!
    echo "seconds,resident_kb,threads,handles" > "$work/course"
    while kill -0 "$pid" 2>/dev/null; do
        resident=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
        threads=$(awk '/^Threads/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
        handles=$(find "/proc/$pid/fd" -mindepth 1 2>/dev/null | wc -l || true)
        [ -z "$resident" ] || echo "$SECONDS,$resident,$threads,$handles" >> "$work/course"
        sleep 5
    done
    wait "$pid" && status=0 || status=$?
    pid=
    took=$SECONDS
    [ "$status" -eq 0 ] || { cat "$work/log"; exit 1; }

    live=$(grep -c '"phase":"start"' "$work/events")
    ended=$(grep -c '"phase":"end"' "$work/events")
    kept=$($hearken events --state "$work/state" --limit 10000000 | wc -l)
    offline=$($hearken classify --json --hop 0.5 "$work/long.flac" | grep -o '"start":' | wc -l)
    echo "$hours h of sound in $took s ($(awk -v h="$hours" -v t="$took" 'BEGIN { print int(h * 3600 / t) }') times real time)"
    echo "events: $live started, $ended ended, $kept kept, $offline by classify"
    # The score log fills for an hour of sound; what grows after that is a leak.
    awk -F, -v took="$took" 'NR > 1 && $1 > took / 4 { n++; x += $1; y += $2; xx += $1 * $1; xy += $1 * $2
            if ($3 > threads) threads = $3; if ($4 > handles) handles = $4
            if (n == 1) { first_threads = $3; first_handles = $4 } }
        END { slope = (n * xy - x * y) / (n * xx - x * x)
            printf "memory: %.0f kB, slope %.2f kB/s over %d samples; threads %d to %d, handles %d to %d\n",
                y / n, slope, n, first_threads, threads, first_handles, handles }' "$work/course"
    [ "$live" -eq "$ended" ] && [ "$live" -eq "$kept" ] && [ "$live" -eq "$offline" ]
}

inputs() {
    cases=${CASES:-80000}
    parsers=(any_bytes_are_taken_calmly any_known_keys any_variables arbitrary_commands arbitrary_bytes
        the_codec_never_panics any_text_is_safe damage_anywhere any_bytes_are_refused damaged_bytes
        damaged_photos any_table any_question)
    HEARKEN_TEST_CASES=$cases cargo test --release --locked --lib -- "${parsers[@]}"
    echo "${#parsers[@]} parsers, $cases cases each"
}

case $part in
all)
    sound
    inputs
    ;;
sound | inputs) "$part" ;;
*)
    echo "usage: $0 [sound|inputs]" >&2
    exit 2
    ;;
esac
