#!/bin/bash
# Makes the pictures of the dashboard in docs/ from the real thing: Chromium, and a daemon that hears the bundled recording.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
HEARKEN_SCREENSHOTS=$folder cargo test --release --locked --test browser
# Of 256 colours they are a third as large, and look the same.
for name in live-dark history-dark event-dark thresholds-light live-phone; do
    ffmpeg -v error -y -i "$folder/$name.png" -vf "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none" \
        "docs/dashboard-$name.png"
done
ls -l docs/dashboard-*.png
