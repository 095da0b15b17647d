#!/bin/bash
# Prints which crates are in the program, under which licences, and the texts that come with them:
# most of these licences ask that their text goes wherever the program goes.
#   usage: licences.sh [TARGET]
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo tree --locked --edges normal,no-proc-macro --target "$target" --prefix none --format '{p}|{l}' |
    sed 's/ (.*)|/|/; s/ (\*)$//' | grep -v '^hearken ' | sort -u > "$work/crates"
cargo metadata --locked --format-version 1 --filter-platform "$target" |
    grep -o '"manifest_path":"[^"]*"' | sed 's/^"manifest_path":"//; s|/Cargo.toml"$||' > "$work/folders"

# The folder of a crate is called NAME-VERSION.
awk -F '|' 'NR == FNR { crate = $1; sub(/ v/, "-", crate); wanted[crate] = 1; next }
    { name = $0; sub(/.*\//, "", name); if (name in wanted) print }' \
    "$work/crates" "$work/folders" | tr '\n' '\0' > "$work/wanted"
xargs -0 sh -c 'find "$@" -maxdepth 2 -type f -size -64k \( -iname "*licen[cs]e*" -o -iname "copying*" \
    -o -iname "notice*" -o -iname "[ou]fl*" \) -exec sha256sum {} +' find < "$work/wanted" | sort -k 2 > "$work/texts"

echo "The crates in the program, and their licences. The texts that come with them follow."
echo
sed 's/|/: /' "$work/crates"
awk '{ folder = $2; sub(/\/[^\/]*$/, "", folder); sub(/.*\//, "", folder)
        if (!($1 in users)) { order[++n] = $1; file[$1] = $2 }
        if (index(users[$1], folder) == 0) users[$1] = users[$1] " " folder }
    END { for (i = 1; i <= n; i++) {
            print "\n----------------------------------------\n" users[order[i]] ":\n"
            while ((getline line < file[order[i]]) > 0) print line } }' "$work/texts"
