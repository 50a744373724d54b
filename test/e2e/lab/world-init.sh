#!/bin/sh
# Process 1 of a world: its own /run, /nix, ssh keys, names and bridge; then it waits for the end of stdin.
# When it ends, the kernel ends every process, mount and network of the world.
# Usage: world-init.sh FOLDER BASE BRIDGE_ADDRESS [NAME=ADDRESS]…
set -eu
folder=$1 base=$2 bridge=$3
shift 3
here=$(dirname "$(readlink -f "$0")")

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
mkdir -p -m 755 /nix
mkdir -p "$folder/nix/store" "$folder/nix/var/nix/profiles" "$folder/home/.ssh" "$folder/tmp" "$folder/git" "$folder/sockets"
chmod 700 "$folder/home/.ssh"
mount --bind "$folder/nix" /nix
# ssh takes its files from the password database's home, whatever $HOME says.
account=$(getent passwd "$(id -u)" | cut -d: -f6)
mkdir -p -m 700 "$account/.ssh"
mount --bind "$folder/home/.ssh" "$account/.ssh"
mount --bind "$folder/hosts-file" /etc/hosts

ssh-keygen -q -t ed25519 -N '' -C controller -f "$folder/home/.ssh/id_ed25519"
ip link set lo up
ip link add lab0 type bridge
ip address add "$bridge/24" dev lab0
ip link set lab0 up

hosts=
for host in "$@"; do
  "$here/host-create.sh" "$folder" "$base" "${host%%=*}" "${host#*=}" &
  hosts="$hosts $!"
done
for host in $hosts; do wait "$host"; done

# Orphans of the world become our children: ignored, the kernel reaps them itself.
trap '' CHLD
echo ready
exec cat >/dev/null
