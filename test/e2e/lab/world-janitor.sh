#!/bin/sh
# Holds a world from outside: starts it in namespaces of its own, waits for its end however that comes, then removes
# what is not a process, a mount or a namespace: its folder and its cgroups. Ctrl-C does not reach it; the end of
# stdin (the test process is gone, even by SIGKILL) ends the world, and with it this script.
# Usage: world-janitor.sh FOLDER INIT ARGUMENTS…
set -u
folder=$1
shift
trap '' INT TERM HUP

remove_world() {
  rm -rf "$1"
  for root in $(awk '$3 == "cgroup2" || ($3 == "cgroup" && $4 ~ /name=systemd/) { print $2 }' /proc/mounts); do
    [ -d "$root/$(basename "$1")" ] && find "$root/$(basename "$1")" -depth -type d -exec rmdir {} \;
  done
}

# A host needs four inotify instances (systemd 3, dbus 1), and the kernel's default allows root 128 on the whole machine:
# without one more, a boot hangs.
limit=/proc/sys/fs/inotify/max_user_instances
[ "$(cat $limit)" -ge 4096 ] || echo 4096 >$limit || true

# The lock says that this world lives. Worlds whose janitor was killed too are swept by the next one.
exec 9>"$folder/lock.new"
flock 9
mv "$folder/lock.new" "$folder/lock"
for other in "$(dirname "$folder")"/slipway-world-*; do
  [ -f "$other/lock" ] && flock --nonblock "$other/lock" true && remove_world "$other"
done

setpriv --pdeathsig KILL unshare --pid --fork --kill-child --mount-proc --mount --net --propagation private "$@"
# A dying namespace may hold a directory for an instant longer.
remove_world "$folder" 2>/dev/null || { sleep 0.2; remove_world "$folder"; }
