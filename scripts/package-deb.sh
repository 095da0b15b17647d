#!/bin/bash
# Fills a folder with all that the Debian package holds, from what `make install` installs; `cargo deb`
# makes the package from it (Cargo.toml). With a third argument dpkg-deb makes the same package, for
# tests and for those without cargo-deb.
#   usage: package-deb.sh BINARY STAGE [OUT.deb]
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
binary=$1
stage=$2
out=${3:-}
root=$stage/root
doc=$root/usr/share/doc/hearken
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}"
export SOURCE_DATE_EPOCH

rm -rf "$stage"
mkdir -p "$root"
make --no-print-directory --silent install BINARY="$binary" DESTDIR="$root" PREFIX=/usr SYSCONFDIR=/etc >&2
strip "$root/usr/bin/hearken"

# Where Debian's zsh looks, and what Debian packs.
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
gzip -9n "$root/usr/share/man/man1/hearken.1"

# From Cargo.toml, so that both ways agree.
field() { sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" Cargo.toml | head -n 1; }
version=$(field version)-1
cat > "$stage/changelog" <<TEXT
hearken ($version) unstable; urgency=medium

  * What has changed is in /usr/share/doc/hearken/changelog.gz.

 -- $(field maintainer)  $(LC_ALL=C date -u -d "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')
TEXT
gzip -9nc CHANGELOG.md > "$doc/changelog.gz"
scripts/licences.sh | gzip -9n > "$doc/crates.txt.gz"
install -D -m 644 -t "$doc" README.md
find docs -maxdepth 1 -type f -exec install -D -m 644 -t "$doc/docs" {} +
install -D -m 644 -t "$doc/models" models/*.md
[ -n "$out" ] || exit 0

# What cargo-deb adds by itself.
gzip -9nc "$stage/changelog" > "$doc/changelog.Debian.gz"
install -m 644 -t "$doc" packaging/debian/copyright
mkdir "$root/DEBIAN"
install -m 755 -t "$root/DEBIAN" packaging/debian/p*
(cd "$root" && find etc -type f -printf '/%p\n' | sort > DEBIAN/conffiles)
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
# Dpkg-shlibdeps wants a source package around it.
mkdir -p "$stage/debian"
printf 'Source: hearken\n\nPackage: hearken\nArchitecture: any\n' > "$stage/debian/control"
depends=$(cd "$stage" && dpkg-shlibdeps -O root/usr/bin/hearken | sed -n 's/^shlibs:Depends=//p')
{
    cat <<CONTROL
Package: hearken
Version: $version
Architecture: $(dpkg --print-architecture)
Section: $(field section)
Priority: $(field priority)
Maintainer: $(field maintainer)
Installed-Size: $(du -k -s --apparent-size --exclude=DEBIAN "$root" | cut -f 1)
Depends: $depends
Pre-Depends: $(field pre-depends)
Recommends: $(field recommends)
Suggests: $(field suggests)
Description: $(field description)
CONTROL
    sed 's/^/ /' packaging/debian/description
} > "$root/DEBIAN/control"
dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" --build "$root" "$out" >&2
