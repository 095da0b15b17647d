#!/bin/bash
# Plays 100 sirens (or as many as the argument says) into a rig microphone, and prints how long they take to
# the broker and to the dashboard's live view. About 15 s each.
set -euo pipefail
cd "$(dirname "$0")/.."
HEARKEN_ONSETS=${1:-100} cargo test --release --locked --test latency -- --nocapture
