#!/bin/sh
# Makes a test host: an overlay on the base system, its identity, its network. Runs inside the world.
# Usage: host-create.sh FOLDER BASE NAME ADDRESS
set -eu
folder=$1 base=$2 name=$3 address=$4
host=$folder/hosts/$name
root=$host/root

mkdir -p "$host/upper" "$host/work" "$root"
# volatile: a world's disks live as long as the world, so fsync may be cheap.
mount -t overlay overlay -o "lowerdir=$base,upperdir=$host/upper,workdir=$host/work,volatile" "$root"
ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$root/etc/ssh/ssh_host_ed25519_key"
install -m 600 "$folder/home/.ssh/id_ed25519.pub" "$root/root/.ssh/authorized_keys"
echo "$name" >"$root/etc/hostname"
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
cp "$folder/hosts-file" "$root/etc/hosts"

ip netns add "$name"
ip link add "v-$name" type veth peer name eth0 netns "$name"
ip link set "v-$name" master lab0 up
ip -n "$name" address add "$address/24" dev eth0
ip -n "$name" link set eth0 up
ip -n "$name" link set lo up
