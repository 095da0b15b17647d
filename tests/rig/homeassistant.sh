# shellcheck shell=bash
# A real Home Assistant Core and a real mosquitto on loopback. To be sourced; then:
#   ha_install VENV       makes the Python environment, if it is missing (800 MB; needs Python 3.13)
#   broker_start FOLDER   mosquitto with passwords and the rights of docs/mqtt.md
#   ha_start VENV FOLDER  Home Assistant with its configuration in FOLDER/config, also a second time
#   ha_connect            logs in, and at the first start adds the MQTT integration
#   ha_eval TEMPLATE      what a template says; no double quotes or backslashes in it
#   ha_post PATH JSON     any call of the REST API
#   ha_stop, broker_stop  end what was started here
# Log of Home Assistant: FOLDER/config/home-assistant.log

# Home Assistant asks the index for what its integrations need when they are set up. The rig forbids
# that (--skip-pip); this is all that it would ask for.
HA_PACKAGES=(homeassistant==2025.4.4 home-assistant-frontend==20250411.0 paho-mqtt==2.1.0)
HA_PYTHON=${HA_PYTHON:-python3.13}
BROKER_USER=hearken
BROKER_PASSWORD=attic-secret
HA_USER=rig
HA_PASSWORD=rig-secret

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for SECONDS COMMAND...: runs it until it succeeds.
wait_for() {
    local until=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.3
    done
}

ha_install() {
    [ ! -x "$1/bin/hass" ] || return 0
    "$HA_PYTHON" -m venv "$1" && "$1/bin/pip" install --quiet "${HA_PACKAGES[@]}"
}

broker_start() {
    local folder=$1
    BROKER_PORT=$(free_port)
    mkdir -p "$folder/memory"
    mosquitto_passwd -b -c "$folder/passwords" "$BROKER_USER" "$BROKER_PASSWORD"
    mosquitto_passwd -b "$folder/passwords" "$HA_USER" "$HA_PASSWORD"
    cat > "$folder/rights" <<RIGHTS
user $BROKER_USER
topic readwrite hearken/attic/#
topic readwrite homeassistant/device/hearken_attic/config
topic read homeassistant/status

user $HA_USER
topic readwrite #
RIGHTS
    cat > "$folder/mosquitto.conf" <<CONF
listener $BROKER_PORT 127.0.0.1
allow_anonymous false
password_file $folder/passwords
acl_file $folder/rights
persistence true
persistence_location $folder/memory/
log_dest file $folder/log
CONF
    # By default it would change to a user who can't read the folder.
    [ "$(id -u)" -ne 0 ] || echo "user root" >> "$folder/mosquitto.conf"
    mosquitto -c "$folder/mosquitto.conf" > /dev/null 2>&1 &
    BROKER_PID=$!
    wait_for 10 port_answers "$BROKER_PORT"
}

port_answers() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# Home Assistant's own user: mosquitto_as pub|sub ARGUMENT...
mosquitto_as() {
    local what=$1
    shift
    "mosquitto_$what" -h 127.0.0.1 -p "$BROKER_PORT" -u "$HA_USER" -P "$HA_PASSWORD" "$@"
}

broker_stop() { stop "${BROKER_PID:-}"; BROKER_PID=; }

ha_start() {
    local venv=$1 config=$2/config
    if [ ! -d "$config/.storage" ]; then
        HA_PORT=$(free_port)
        HA_URL=http://127.0.0.1:$HA_PORT
        mkdir -p "$config"
        cat > "$config/configuration.yaml" <<YAML
homeassistant:
  name: Rig
  time_zone: UTC
http:
  server_host: 127.0.0.1
  server_port: $HA_PORT
logger:
  default: warning
automation: !include automations.yaml
YAML
        echo "[]" > "$config/automations.yaml"
        "$venv/bin/hass" --script auth -c "$config" add "$HA_USER" "$HA_PASSWORD" > /dev/null
    fi
    "$venv/bin/hass" -c "$config" --skip-pip --log-no-color > "$2/output" 2>&1 &
    HA_PID=$!
    wait_for 180 port_answers "$HA_PORT"
}

ha_connect() {
    ha_login || return 1
    wait_for 120 ha_is_running || return 1
    [ -z "${HA_CONNECTED:-}" ] || return 0
    local flow
    flow=$(ha_post /api/config/config_entries/flow '{"handler": "mqtt"}' | json flow_id) || return 1
    ha_post "/api/config/config_entries/flow/$flow" \
        "{\"broker\": \"127.0.0.1\", \"port\": $BROKER_PORT, \"username\": \"$HA_USER\", \"password\": \"$HA_PASSWORD\"}" \
        | grep -q '"type":"create_entry"' || return 1
    HA_CONNECTED=yes
}

# As a browser does it.
ha_login() {
    local flow code client="\"client_id\": \"$HA_URL/\""
    flow=$(curl -sf -X POST "$HA_URL/auth/login_flow" \
        -d "{$client, \"handler\": [\"homeassistant\", null], \"redirect_uri\": \"$HA_URL/\"}" | json flow_id) || return 1
    code=$(curl -sf -X POST "$HA_URL/auth/login_flow/$flow" \
        -d "{$client, \"username\": \"$HA_USER\", \"password\": \"$HA_PASSWORD\"}" | json result) || return 1
    HA_TOKEN=$(curl -sf -X POST "$HA_URL/auth/token" \
        -d "grant_type=authorization_code&code=$code&client_id=$HA_URL/" | json access_token)
}

ha_is_running() { ha_get /api/config | grep -q '"state":"RUNNING"'; }

ha_get() { curl -sf -H "Authorization: Bearer $HA_TOKEN" "$HA_URL$1"; }

ha_post() {
    curl -sf -X POST -H "Authorization: Bearer $HA_TOKEN" -H 'Content-Type: application/json' -d "$2" "$HA_URL$1"
}

ha_eval() { ha_post /api/template "{\"template\": \"${1//$'\n'/ }\"}"; }

ha_stop() { stop "${HA_PID:-}"; HA_PID=; }

# stop PID [SIGNAL]: one that was started here; waits for its end.
stop() {
    [ -n "$1" ] || return 0
    kill "-${2:-TERM}" "$1" 2> /dev/null || true
    wait "$1" 2> /dev/null || true
}

json() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
