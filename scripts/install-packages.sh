#!/bin/bash
# Installs the Debian packages named as arguments, as far as they are missing. Asks nothing.
set -euo pipefail

if ! command -v dpkg-query >/dev/null; then
    echo "Not a Debian system: make sure that you have the equivalents of: $*" >&2
    exit 0
fi

missing=()
for package in "$@"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "Missing packages. Install them, then try again:" >&2
        echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo -n)
fi

# Installed for the tests, not to run: Debian would start Mosquitto at once and at every boot, on
# the port of Hearken's own broker. Invoke-rc.d asks this file; one that exists stays as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

echo "Installing: ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
"${apt[@]}" update
"${apt[@]}" install --yes --no-install-recommends "${missing[@]}" </dev/null >/dev/null

case " ${missing[*]} " in
*" mosquitto "*) "${as_root[@]}" systemctl --quiet disable mosquitto.service 2>/dev/null || true ;;
esac
