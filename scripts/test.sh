#!/bin/bash
# Runs all tests, and ends with one line: "N passed, N failed". Arguments go to `cargo test`.
# Fails when a test fails, when something does not build, and when no test ran at all.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Without root, only the tests that boot systemd get it, from sudo; see the runner.
runner=()
if [ "$(id -u)" -ne 0 ]; then
    runner=(--config "target.'cfg(unix)'.runner = ['$PWD/scripts/test-runner.sh']")
fi

status=0
cargo test --release --locked --no-fail-fast "${runner[@]}" "$@" 2>&1 | tee "$log" || status=$?
if [ $# -eq 0 ]; then
    cargo test --release --locked --manifest-path tests/ring_model/Cargo.toml \
        --target-dir target/ring_model 2>&1 | tee -a "$log" || status=$?
fi

summary=$(awk '/^test result: / { passed += $4; failed += $6 }
    END { printf "%d passed, %d failed\n", passed, failed }' "$log")
case $summary in
"0 passed, 0 failed")
    echo "No test ran." >&2
    status=1
    ;;
esac
mkdir -p target
echo "$summary" | tee target/test-summary.txt
exit "$status"
