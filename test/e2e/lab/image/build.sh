#!/bin/sh
# Builds the base system of the test hosts: Debian with its own systemd, sshd and nix, made to start the way NixOS does.
# Usage: build.sh DIRECTORY. The caller renames the finished directory into the cache; this folder's hash is its name.
set -eu
target=$1
here=$(dirname "$(readlink -f "$0")")

packages=systemd,systemd-sysv,dbus,openssh-server,nix-bin,iproute2,procps,ca-certificates,busybox-static,git,curl,age
packages=$packages,sudo,opendoas,nftables,iputils-ping,zstd,xz-utils,util-linux

mmdebstrap --quiet --variant=minbase --include="$packages" \
  --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm "$target" ${SLIPWAY_DEBIAN_MIRROR:+"$SLIPWAY_DEBIAN_MIRROR"}

install -m 755 "$here/stage-2-init" "$target/usr/sbin/stage-2-init"
install -D -m 644 "$here/nix.conf" "$target/etc/nix/nix.conf"
install -D -m 644 "$here/sshd.conf" "$target/etc/ssh/sshd_config.d/lab.conf"
# What switch-to-configuration looks for before it touches a system.
: >"$target/etc/NIXOS"
# Each host gets its own.
rm -f "$target"/etc/ssh/ssh_host_*_key* "$target/etc/hostname" "$target/etc/hosts"
: >"$target/etc/machine-id"
mkdir -p "$target/nix/store" "$target/nix/var/nix/profiles" "$target/boot/loader" "$target/opt/slipway" "$target/opt/node"
mkdir -p -m 700 "$target/root/.ssh"
# Nothing of Debian's own housekeeping: a host must settle in well under a second. Path units cost an inotify instance
# each, of which a machine has 128 by default.
for unit in systemd-ask-password-console.path systemd-ask-password-wall.path console-getty.service getty.target systemd-logind.service systemd-update-utmp.service \
  systemd-update-utmp-runlevel.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  e2scrub_all.timer e2scrub_reap.service fstrim.timer nftables.service systemd-pcrphase.service; do
  ln -sfn /dev/null "$target/etc/systemd/system/$unit"
done
