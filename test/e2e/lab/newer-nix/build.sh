#!/bin/sh
# Unpacks the Nix of the next Debian release, with its libraries and nothing else. It is no system to boot or to chroot into:
# its own dynamic loader runs it where it lies, so it sees the same files, network and users as the Nix of this machine.
# Usage: build.sh DIRECTORY. The caller renames the finished directory into the cache; this folder's hash is its name.
set -eu
target=$1
here=$(dirname "$(readlink -f "$0")")

mmdebstrap --quiet --variant=extract --include=nix-bin \
  --dpkgopt='path-exclude=/usr/share/*' \
  trixie "$target" ${SLIPWAY_DEBIAN_MIRROR:+"$SLIPWAY_DEBIAN_MIRROR"}

rm -rf "$target/var/cache" "$target/var/lib/apt"
mkdir "$target/bin"
for program in "$target"/usr/bin/nix*; do
  install -m 755 "$here/run-nix" "$target/bin/$(basename "$program")"
done
