#!/bin/bash
# Prints one table of Hearken's figures on this machine, and the command behind each.
#
#   benches/figures.sh [stages] [stft] [live] [many] [classify] [start] [size]     (default: all)
#
# Needs a release build, sox, mosquitto_sub and, for "stages" and "stft", cargo. scipy and librosa
# are measured if Python can install them under target/. Takes about ten minutes, and figures are
# only as good as the machine is quiet: its load is printed with them.
set -euo pipefail
cd "$(dirname "$0")/.."

BINARY=${BINARY:-target/release/hearken}
RUNS=${RUNS:-3}                # repetitions of what is noisy; the median counts
LIVE_S=${LIVE_S:-60}           # seconds that live sources are measured
SOURCES=${SOURCES:-20}         # live sources at once
SETTLE_S=8                     # until the first window is judged and everything has been started
NODE=figures

for tool in sox mosquitto_sub taskset "$BINARY"; do
    command -v "$tool" >/dev/null || { echo "$tool is needed (\`make build\`, apt install sox mosquitto-clients)" >&2; exit 1; }
done
work=$(mktemp -d)
children=()
rows="$work/rows"
: >"$rows"

cleanup() {
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

row() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$rows"; }
say() { echo "measuring: $*" >&2; }
calc() { awk "BEGIN { printf \"$1\", $2 }"; }
now() { date +%s.%N; }
median() { sort -g | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
free_port() {
    local port
    while port=$((20000 + RANDOM % 20000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

# --- What is heard -----------------------------------------------------------------------------

# The golden clips one after the other, over and over: $2 seconds at $3 Hz with $4 channels.
make_audio() {
    sox -V1 tests/golden/{siren,dog,rain,glass_breaking,thunderstorm,crying_baby}.ogg \
        -r "$3" -c "$4" "$1" repeat 100 trim 0 "$2"
}

# --- A daemon under observation ----------------------------------------------------------------

# Starts `hearken run` with the given arguments: sets pid and port.
start_daemon() {
    port=$(free_port)
    "$BINARY" run --node "$NODE" --log-level warn --set "mqtt.embedded_port=$port" "$@" \
        >"$work/events" 2>"$work/log" &
    pid=$!
    children+=("$pid")
}
stop_daemon() {
    kill "$pid"
    wait "$pid" || true
}
cpu_seconds() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13) / hz }' "/proc/$1/stat"; }
peak_mb() { awk '/^VmHWM/ { printf "%.1f", $2 / 1000 }' "/proc/$1/status"; }

# CPU seconds of `pid` over LIVE_S seconds: sets cpu_s and took_s.
observe() {
    local begin begin_cpu
    sleep "$SETTLE_S"
    begin=$(now) begin_cpu=$(cpu_seconds "$pid")
    sleep "$LIVE_S"
    cpu_s=$(calc %.3f "$(cpu_seconds "$pid") - $begin_cpu")
    took_s=$(calc %.3f "$(now) - $begin")
}

# --- The figures -------------------------------------------------------------------------------

bench_binary() {
    cargo bench --locked --bench hot_path --no-run --message-format json 2>/dev/null |
        sed -n 's/.*"name":"hot_path".*"executable":"\([^"]*\)".*/\1/p'
}

# The benchmarks that match $1: lines of "name<tab>median ns<tab>best ns<tab>elements".
criterion() {
    local home="$work/criterion" samples
    rm -rf "$home"
    CRITERION_HOME=$home "$bench" --bench --noplot --sample-size 20 --warm-up-time 1 \
        --measurement-time 4 "$1" >"$work/log" 2>&1
    find "$home" -path '*/new/sample.json' | sort | while read -r samples; do
        printf '%s\t' "$(sed 's|.*"full_id":"\([^"]*\)".*|\1|' "${samples%/*}/benchmark.json")"
        tr -d '[:space:]' <"$samples" | sed 's/.*"iters":\[\([^]]*\)\],"times":\[\([^]]*\)\].*/\1\n\2\n/' |
            awk -F , 'NR == 1 { split($0, n) } NR == 2 { for (i = 1; i <= NF; i++) print $i / n[i] }' |
            sort -g | awk '{ v[NR] = $1 } END { printf "%.1f\t%.1f\t", v[int((NR + 1) / 2)], v[1] }'
        # The file ends without the line feed that `read` needs.
        echo "$(sed 's|.*"throughput":{"Elements":\([0-9]*\)}.*|\1|' "${samples%/*}/benchmark.json")"
    done
}

figure_stages() {
    say "the stages"
    local name median best elements what unit scale
    while IFS=$'\t' read -r name median best elements; do
        case $name in
        resample/*) what="resampling, ${name##*/seconds_}" unit="ms per second of audio" scale=1e6 ;;
        analyser/*) what="samples to images, ${name##*/seconds_}" unit="ms per second of audio" scale=1e6 ;;
        network/*) what="network, one window" unit="ms" scale=1e6 ;;
        image/*) what="image from the kept columns" unit="µs" scale=1e3 ;;
        ring/*) what="ring, 10 ms of 48 kHz stereo in and out" unit="µs" scale=1e3 ;;
        esac
        row "${what//_/ }" "$(calc %.3f "$median / $elements / $scale") $unit (best $(calc %.3f "$best / $elements / $scale"))" "" \
            "cargo bench --bench hot_path -- $name"
    done < <(criterion '^(resample|analyser|image|network|ring)/')
}

# A Python with scipy and librosa; fails when there is none.
comparison_python() {
    local venv=target/bench-venv
    if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv" >&2 || return 1; fi
    "$venv/bin/python" -c 'import scipy, librosa' 2>/dev/null ||
        "$venv/bin/pip" install --quiet numpy scipy librosa >&2 || return 1
    echo "$venv/bin/python"
}

# Ours and theirs in turns, so that a busy spell hits both; of each turn the fastest pass counts.
figure_stft() {
    say "STFT and mel columns"
    local python run best ours
    python=$(comparison_python) || python=
    for ((run = 0; run < RUNS; run++)); do
        criterion '^stft/' | awk -F '\t' '{ print $4 / $3 * 1e9 }' >>"$work/ours"
        [ -n "$python" ] || continue
        "$python" benches/compare_stft.py --json | tr ',{}' '\n\n\n' |
            sed -n 's/^ *"\(scipy [^"]*\|librosa [^"]*\)": *\([0-9]*\)$/\1\t\2/p' >>"$work/theirs"
    done
    ours=$(median <"$work/ours")
    row "STFT + mel columns, 32 kHz, 1 thread" "$(calc %.0f "$ours") columns/s" "" "cargo bench --bench hot_path -- stft"
    if [ ! -s "$work/theirs" ]; then
        row "against scipy and librosa" "not measured: no Python with them" ">= 3x" "python benches/compare_stft.py"
        return
    fi
    cut -f 1 "$work/theirs" | sort -u | while read -r name; do
        best=$(awk -F '\t' -v name="$name" '$1 == name { print $2 }' "$work/theirs" | median)
        row "against $name ($best columns/s)" "$(calc %.1f "$ours / $best")x" ">= 3x" "python benches/compare_stft.py"
    done
}

figure_live() {
    say "one live source"
    make_audio "$work/live.wav" $((LIVE_S + SETTLE_S + 30)) 48000 2
    start_daemon --file "$work/live.wav"
    observe
    local peak
    peak=$(peak_mb "$pid")
    stop_daemon
    row "live chain, hop 0.5 s, 48 kHz stereo" "$(calc %.2f "100 * $cpu_s / $took_s") % of a core" "<= 3 %" "hearken run --file live.wav, /proc/PID/stat over $LIVE_S s"
    row "... CPU per hour of audio" "$(calc %.0f "3600 * $cpu_s / $took_s") s" "" "the same"
    row "... peak resident memory" "$peak MB" "<= 80 MB" "VmHWM in /proc/PID/status"
}

# The last value of counter $1 in each source's status, summed.
counted() {
    awk -v counter="\"$1\":" '{ split($0, part, counter); last[$1] = part[2] + 0 }
        END { for (topic in last) sum += last[topic]; print sum + 0 }' "$work/status"
}

figure_many() {
    say "$SOURCES live sources"
    local files=() source i subscriber peak heard
    # Long enough that no file ends while it is measured.
    make_audio "$work/many.wav" $((LIVE_S + SETTLE_S + 60)) 48000 1
    for ((i = 1; i <= SOURCES; i++)); do
        source="$work/room$i.wav"
        ln "$work/many.wav" "$source"
        files+=(--file "$source")
    done
    start_daemon "${files[@]}"
    taskset -a -p -c 0,1 "$pid" >/dev/null
    sleep 1
    mosquitto_sub -h 127.0.0.1 -p "$port" -t "hearken/$NODE/+/status" -v >"$work/status" &
    subscriber=$!
    children+=("$subscriber")
    observe
    # Counters are told every half minute, losses within a second: wait for the next round.
    sleep 30
    peak=$(peak_mb "$pid")
    kill "$subscriber"
    stop_daemon
    heard=$(cut -d ' ' -f 1 "$work/status" | sort -u | wc -l)
    local how="hearken run with $SOURCES times --file, mosquitto_sub -t 'hearken/+/+/status'"
    row "$SOURCES sources on 2 cores: heard" "$heard, $(counted classified_windows) windows judged" "$SOURCES" "$how"
    row "... windows dropped" "$(counted dropped_windows)" "0" "the same"
    row "... samples lost / gaps" "$(counted lost_samples) / $(counted gaps)" "0 / 0" "the same"
    row "... CPU" "$(calc %.1f "100 * $cpu_s / $took_s") % of a core, $(calc %.2f "100 * $cpu_s / $took_s / $SOURCES") % a source" "<= 3 % a source" "/proc/PID/stat over $LIVE_S s"
    row "... peak resident memory" "$peak MB" "" "VmHWM in /proc/PID/status"
}

# Median wall seconds and CPU seconds of `hearken classify` of folder $1 with $2 jobs.
classify_s() {
    local run TIMEFORMAT='%R %U %S'
    for ((run = 0; run < RUNS; run++)); do
        { time "$BINARY" classify --json --hop 1 --jobs "$2" "$1" >/dev/null 2>"$work/log"; } 2>>"$work/times"
    done
    cut -d ' ' -f 1 "$work/times" | median
    awk '{ print $2 + $3 }' "$work/times" | median
    rm "$work/times"
}

figure_classify() {
    say "classify"
    local i format folder audio_s what load one one_cpu two
    mkdir "$work/clips" "$work/long" "$work/none"
    make_audio "$work/source.wav" 500 44100 1
    for ((i = 0; i < 100; i++)); do
        format=$([ $((i % 2)) = 0 ] && echo ogg || echo wav)
        sox -V1 "$work/source.wav" "$work/clips/$(printf %03d "$i").$format" trim $((5 * i)) 5
    done
    for format in wav aiff flac ogg; do make_audio "$work/long/file.$format" 180 44100 2; done
    cp tests/golden/siren.png "$work/none/"
    load=$(classify_s "$work/none" 1 | head -n 1)
    row "classify: start, model and one image" "$load s" "" "hearken classify siren.png"
    for what in "clips 500 100_clips_of_5_s" "long 720 4_files_of_3_min"; do
        read -r folder audio_s what <<<"$what"
        { read -r one && read -r one_cpu; } < <(classify_s "$work/$folder" 1)
        two=$(classify_s "$work/$folder" 2 | head -n 1)
        what="classify ${what//_/ }, hop 1 s"
        row "$what" "$(calc %.0f "$audio_s / $one")x real time on 1 core, $(calc %.0f "$audio_s / $one_cpu")x by CPU time" ">= 100x" "hearken classify --hop 1 --jobs 1 FOLDER ($one s)"
        row "... on 2 cores" "$(calc %.2f "$one / $two")x one core, $(calc %.2f "($one - $load) / ($two - $load)")x without the start" ">= 1.8x" "... --jobs 2 ($two s)"
    done
}

# From the start of the process to the first scores over MQTT, less the window itself, in real time.
figure_start() {
    say "the first window"
    local run begin end subscriber
    make_audio "$work/start.wav" 12 48000 1
    for ((run = 0; run < RUNS; run++)); do
        begin=$(now)
        start_daemon --file "$work/start.wav" --set mqtt.scores=true
        until mosquitto_sub -h 127.0.0.1 -p "$port" -t "hearken/$NODE/+/scores" -F %U -C 1 \
            >"$work/first" 2>/dev/null; do sleep 0.05; done
        end=$(<"$work/first")
        stop_daemon
        calc '%.3f\n' "$end - $begin - 5.0"
    done >"$work/delays"
    row "process start to first judged window" "$(median <"$work/delays") s + the window of 5 s" "< 1 s + window" "hearken run --file start.wav --set mqtt.scores=true, mosquitto_sub -F %U -C 1"
}

figure_size() {
    strip -o "$work/stripped" "$BINARY"
    row "program, model included" "$(calc %.1f "$(stat -c %s "$BINARY") / 1e6") MB, $(calc %.1f "$(stat -c %s "$work/stripped") / 1e6") MB stripped" "" "stat, strip"
}

# --- All of it ---------------------------------------------------------------------------------

wanted=("$@")
[ $# -gt 0 ] || wanted=(stages stft live many classify start size)
for figure in "${wanted[@]}"; do
    declare -F "figure_$figure" >/dev/null || { echo "no figure is called $figure" >&2; exit 2; }
    case $figure in
    stages | stft)
        bench=${bench:-$(bench_binary)}
        [ -n "$bench" ] || { echo "the benchmarks do not build: cargo bench --no-run" >&2; exit 1; }
        ;;
    esac
    "figure_$figure"
done

model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
echo "$("$BINARY" --version) on ${model:-an unknown processor}, $(nproc) cores, load $(cut -d ' ' -f 1-3 /proc/loadavg), $(date -u +%F)"
{
    printf 'figure\tvalue\ttarget\tcommand\n'
    cat "$rows"
} | column -t -s $'\t' -o ' | '
