#!/bin/sh
# Powers a test host on: its own process 1 (stage 2, then systemd) in its own cgroup. Ends when the host halts;
# exit code 133 is a request to reboot. Runs inside the world.
# Usage: host-boot.sh FOLDER NAME REPOSITORY NODE
set -eu
folder=$1 name=$2 repository=$3 node=$4

for root in $(awk '$3 == "cgroup2" || ($3 == "cgroup" && $4 ~ /name=systemd/) { print $2 }' /proc/mounts); do
  mkdir -p "$root/$(basename "$folder")/$name"
  echo 0 >"$root/$(basename "$folder")/$name/cgroup.procs"
done
exec systemd-nspawn --quiet --keep-unit --register=no --machine="$name" --directory="$folder/hosts/$name/root" \
  --network-namespace-path="/run/netns/$name" --resolv-conf=off --timezone=off --link-journal=no \
  --bind-ro="$repository:/opt/slipway" --bind-ro="$node:/opt/node" --capability=CAP_NET_ADMIN \
  --console=read-only --kill-signal=SIGRTMIN+3 /usr/sbin/stage-2-init
