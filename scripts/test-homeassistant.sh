#!/bin/bash
# Hearken as a real Home Assistant sees it: starts one, a mosquitto and the daemon on loopback, and asks
# Home Assistant's REST API what it shows, through switches, reloads, crashes and restarts. Takes two
# or three minutes, the first time longer: Home Assistant is then installed (800 MB, needs Python 3.13).
#   usage: test-homeassistant.sh [PROGRAM]     (target/release/hearken)
# HEARKEN_HOMEASSISTANT is the Python environment (target/homeassistant), HA_PYTHON another name of
# Python 3.13. Prints a line for each assertion, and at the end "N passed, M failed".
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/rig/homeassistant.sh

program=$(realpath "${1:-target/release/hearken}")
venv=${HEARKEN_HOMEASSISTANT:-target/homeassistant}
mkdir -p "$venv"
venv=$(realpath "$venv")
unset HEARKEN_HOMEASSISTANT # The daemon refuses variables that it does not know.
patience=90
passed=0
failed=0
work=$(mktemp -d)
daemon=
finish() {
    stop "$daemon"
    ha_stop
    broker_stop
    if [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]; then rm -rf "$work"; else echo "Logs: $work" >&2; fi
}
trap finish EXIT

verdict() {
    if [ "$1" = yes ]; then
        passed=$((passed + 1))
        echo "ok      $2"
    else
        failed=$((failed + 1))
        echo "FAILED  $2${3:+: $3}"
    fi
}

# expect WHAT TEMPLATE VALUE: Home Assistant comes to say this.
expect() {
    local said until=$((SECONDS + patience))
    while :; do
        said=$(ha_eval "$2" || echo "no answer")
        [ "$said" != "$3" ] || { verdict yes "$1"; return 0; }
        [ "$SECONDS" -lt "$until" ] || break
        sleep 0.3
    done
    verdict no "$1" "it says '$said', not '$3'"
}

state() { echo "{{ states('$1') }}"; }

# A state of the entities of the device, all of them or those that a pattern names, without repetition.
entities="device_entities(device_id('binary_sensor.hearken_attic_connectivity'))"
states_of() { echo "{{ $entities | select('search', '$1') | map('states') | unique | sort | join(' ') }}"; }

# How many entities that a pattern names have a state.
known() { echo "$entities | select('search', '$1') | map('states') | reject('in', ['unknown', 'unavailable']) | list | count"; }

# expect_entities WHAT: the device has exactly the entities of these sources and classes.
expect_entities() {
    local source class wanted=(binary_sensor.hearken_attic_connectivity)
    for source in $sources; do
        wanted+=("sensor.hearken_attic_${source}_level" "switch.hearken_attic_${source}_listening")
        for class in $classes; do wanted+=("binary_sensor.hearken_attic_${source}_$class"); done
    done
    expect "$1" "{{ $entities | sort | join(' ') }}" "$(printf '%s\n' "${wanted[@]}" | LC_ALL=C sort | xargs)"
}

# expect_gone PATTERN WHAT: nothing has such a name any more, registered or not.
expect_gone() { expect "$2" "{{ states | map(attribute='entity_id') | select('search', '$1') | list | count }}" 0; }

write_config() {
    local class list=""
    for class in $classes; do list+="${list:+, }\"$class\""; done
    # The names are those of the documentation: "microphone" is the recording.
    cat > "$work/config.toml" <<TOML
node = "attic"

[[source]]
name = "microphone"
file = "$PWD/assets/soundscape.ogg"
repeat = true

[[source]]
name = "${sources#* }"
command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1",
    "-i", "$PWD/assets/soundscape.ogg", "-f", "s16le", "-ac", "1", "-ar", "32000", "-"]

[detection]
classes = [$list]

[mqtt]
host = "127.0.0.1"
port = $BROKER_PORT
user = "$BROKER_USER"
password_file = "password"

[store]
folder = "$work/state"
TOML
}

start_home_assistant() {
    if ha_start "$venv" "$work" && ha_connect; then return 0; fi
    verdict no "Home Assistant starts and takes the broker" "$(tail -n 5 "$work/output")"
    summary
}

summary() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ] || exit 1
}

start_daemon() {
    ALSA_CONFIG_PATH=/dev/null "$program" run --config "$work/config.toml" >> "$work/daemon.out" 2>> "$work/daemon.log" &
    daemon=$!
}

# automation NAME INPUTS: one made from the blueprint, as the editor does it.
automation() {
    ha_post "/api/config/automation/config/$1" "{\"alias\": \"$1\", \"use_blueprint\": {
        \"path\": \"hearken/hearken_alert.yaml\", \"input\": {
            \"sounds\": [\"binary_sensor.hearken_attic_microphone_siren\"], $2}}}" | grep -q '"ok"'
}
say_alert='"alert": [{"action": "mqtt.publish", "data": {"topic": "rig/alert", "payload": "{{ sound }}", "retain": true}}]'
turn() { ha_post "/api/services/switch/turn_$1" "{\"entity_id\": \"$switch\"}" > /dev/null; }
ran() { ha_eval "{{ state_attr('automation.$1', 'last_triggered') }}"; }

siren=binary_sensor.hearken_attic_microphone_siren
switch=switch.hearken_attic_microphone_listening
online=binary_sensor.hearken_attic_connectivity
sources="microphone garden"
classes="siren dog glass_breaking"

echo "# Home Assistant ${HA_PACKAGES[0]#*==}, $("$program" --version)"
ha_install "$venv"
verdict "$("$venv/bin/python" scripts/check-discovery.py tests/data/discovery/*.json > "$work/golden" 2>&1 && echo yes)" \
    "the golden files are what its schemas want" "$(cat "$work/golden")"
broker_start "$work/broker"
mkdir -p "$work/config/blueprints/automation/hearken"
cp docs/blueprints/hearken_alert.yaml "$work/config/blueprints/automation/hearken/"
start_home_assistant
printf '%s\n' "$BROKER_PASSWORD" > "$work/password"
chmod 600 "$work/password"
write_config
start_daemon

echo "# A listener is there"
expect_entities "the device has the entities of two sources and three sounds"
mosquitto_as sub -C 1 -W 10 -F '{"topic": "%t", "payload": %p}' -t homeassistant/device/hearken_attic/config > "$work/live.json"
verdict "$("$venv/bin/python" scripts/check-discovery.py "$work/live.json" > "$work/live" 2>&1 && echo yes)" \
    "what it announced is what the schemas want" "$(cat "$work/live")"
device="device_id('$online')"
expect "the device says what it is" \
    "{{ device_attr($device, 'name') }}, {{ device_attr($device, 'manufacturer') }}, {{ device_attr($device, 'sw_version') }}" \
    "Hearken attic, Hearken, $("$program" --version | cut -d ' ' -f 2)"
for class in $classes; do
    expect "microphone $class is a binary sensor of class sound" \
        "{{ state_attr('binary_sensor.hearken_attic_microphone_$class', 'device_class') }}" sound
done
expect "the connectivity is of class connectivity" "{{ state_attr('$online', 'device_class') }}" connectivity
expect "it is connected" "$(state $online)" on
expect "both levels are numbers in dBFS" \
    "{% set level = namespace(good=0) %}{% for id in $entities | select('search', '_level') %}
    {% if is_number(states(id)) and -100 < states(id) | float < 0 and state_attr(id, 'unit_of_measurement') == 'dBFS' %}
    {% set level.good = level.good + 1 %}{% endif %}{% endfor %}{{ level.good }}" 2
expect "both sources are listened to" "$(states_of _listening)" on

expect "the siren goes on" "$(state $siren)" on
expect "the siren goes off" "$(state $siren)" off

echo "# The switch, and the blueprint"
turn off
expect "the switch is off when the listener has let go" "$(state $switch)" off
expect "nothing of it is on" "$(states_of "^binary_sensor.*microphone_")" off
expect "the other source is still heard" "$(state switch.hearken_attic_garden_listening)" on
verdict "$(automation plain "\"on_for_s\": 1, \"cooldown_min\": 0, $say_alert" && echo yes)" "an automation is made from the blueprint"
verdict "$(automation rested '"cooldown_min": 60' && echo yes)" "one with a rest, and the action it comes with"
verdict "$(automation quiet '"quiet_from": "00:00:00", "quiet_to": "23:59:59"' && echo yes)" "one with quiet hours all day"
verdict "$(automation patient '"on_for_s": 120' && echo yes)" "one for sounds of two minutes"
expect "all four are in force, and none has run" \
    "{{ states.automation | map(attribute='state') | join(' ') }} {{ states.automation | map(attribute='attributes.last_triggered') | select | list | count }}" \
    "on on on on 0"

# Switched on, the recording begins anew: the siren comes after 2 s.
turn on
expect "the switch is on again" "$(state $switch)" on
expect "the siren goes on again" "$(state $siren)" on
expect "the automation runs" "{{ state_attr('automation.plain', 'last_triggered') is not none }}" True
verdict "$([ "$(mosquitto_as sub -C 1 -W 20 -t rig/alert)" = "Hearken attic Microphone siren" ] && echo yes)" \
    "its action knows the name of the sound"
expect "so does the one with a rest" "{{ state_attr('automation.rested', 'last_triggered') is not none }}" True
first=$(ran plain)
rested=$(ran rested)
turn off
expect "the siren ends with the listening" "$(state $siren)" off
turn on
expect "the siren goes on a second time" "$(state $siren)" on
expect "the automation runs a second time" "{{ state_attr('automation.plain', 'last_triggered') | string != '$first' }}" True
expect "the one with a rest does not" "{{ state_attr('automation.rested', 'last_triggered') | string == '$rested' }}" True
expect "nor has the one with quiet hours, or the patient one" \
    "{{ state_attr('automation.quiet', 'last_triggered') }} {{ state_attr('automation.patient', 'last_triggered') }}" "None None"

echo "# A crash"
stop "$daemon" KILL
expect "not connected" "$(state $online)" off
expect "all else is unavailable" "$(states_of "^(?!$online)")" unavailable
start_daemon
expect "connected again" "$(state $online)" on
expect "all sounds are known again" "{{ $(known "^binary_sensor") }}" 7
expect "both sources are listened to again" "$(states_of _listening)" on
expect "both levels are known again" "{{ $(known "_level$") }}" 2

echo "# Another configuration"
classes="siren dog"
write_config
kill -HUP "$daemon"
expect_entities "a sound that is no longer reported is gone after a reload"
expect_gone glass_breaking "nothing is left of it"
expect "the others are as before" "{{ $(known "^binary_sensor") }}" 5
stop "$daemon"
expect "a listener that was stopped is not connected" "$(state $online)" off
sources="microphone yard"
write_config
start_daemon
expect_entities "a renamed source has the new entities only"
expect_gone garden "nothing is left of the old ones"
expect "the new ones are known" "{{ $(known yard) }}" 4

echo "# Home Assistant starts anew"
# It would also find what is retained at the broker; without that, only an answer to its birth message helps.
ha_stop
mosquitto_as pub -r -n -t homeassistant/device/hearken_attic/config
start_home_assistant
expect_entities "the entities are there again"
expect "connected" "$(state $online)" on
expect "all sounds are known" "{{ $(known "^binary_sensor") }}" 5
expect "both sources are listened to" "$(states_of _listening)" on
expect "both levels are known" "{{ $(known "_level$") }}" 2
expect "the siren is off" "$(state $siren)" off
last=$(ran plain)
expect "the siren goes on" "$(state $siren)" on
expect "the automation runs after a restart, too" "{{ state_attr('automation.plain', 'last_triggered') | string not in ['None', '$last'] }}" True

complaints=$(grep -hE ' (WARNING|ERROR|CRITICAL) ' "$work"/config/home-assistant.log* | grep -iE 'mqtt|hearken|automation|blueprint|template' || true)
verdict "$([ -z "$complaints" ] && echo yes)" "its log has no complaint" "$complaints"
summary
