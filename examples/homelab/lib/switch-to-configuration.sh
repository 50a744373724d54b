#!@busybox@ sh
# NixOS' switch-to-configuration as far as the outside can tell: arguments, lock, order, messages and exit codes
# (1 refused or boot loader, 2 activation failed, 4 units failed, 11 locked, 100 reboot needed).
PATH=@out@/sw/bin:/usr/bin:/usr/sbin:/bin:/sbin
export PATH
NIXOS_ACTION=${1:-}
export NIXOS_ACTION
new=@out@/etc/systemd/system

case $NIXOS_ACTION in
  check | switch | boot | test | dry-activate) ;;
  *)
    echo "Usage: $0 [check|switch|boot|test|dry-activate]" >&2
    exit 1
    ;;
esac
if [ ! -e /etc/NIXOS ]; then
  echo "This is not a NixOS installation!" >&2
  exit 1
fi

mkdir -p -m 755 /run/nixos
exec 9>/run/nixos/switch-to-configuration.lock
if ! flock --exclusive --nonblock 9; then
  echo "Could not acquire lock" >&2
  exit 11
fi

check_inhibitors() {
  [ "${NIXOS_NO_CHECK:-}" = 1 ] && return 0
  [ "$NIXOS_ACTION" = boot ] || [ "$NIXOS_ACTION" = dry-activate ] && return 0
  [ -e /run/current-system/switch-inhibitors ] || return 0
  cmp -s /run/current-system/switch-inhibitors @out@/switch-inhibitors && return 0
  echo "There are changes to critical components of the system:" >&2
  echo "  $(cat /run/current-system/switch-inhibitors) -> $(cat @out@/switch-inhibitors)" >&2
  echo "Switching into this system is not recommended. Use 'boot' and reboot, or set NIXOS_NO_CHECK=1." >&2
  return 1
}

# Like the systemd-boot builder: one entry a generation; the default is the one whose toplevel this is; without one it stays.
install_boot_loader() {
  if [ @break@ = boot-loader ]; then
    echo "Failed to install bootloader" >&2
    return 1
  fi
  mkdir -p /boot/loader/entries
  default= entries=
  for generation in /nix/var/nix/profiles/system-*-link; do
    system=$(readlink "$generation") number=${generation##*/system-}
    entry=nixos-generation-${number%-link}.conf
    entries="$entries $entry"
    printf 'title NixOS\noptions init=%s/init\n' "$system" >"/boot/loader/entries/$entry"
    [ "$system" != @out@ ] || default=$entry
  done
  for entry in $(cd /boot/loader/entries && ls | grep '^nixos-'); do
    case "$entries " in *" $entry "*) ;; *) rm -f "/boot/loader/entries/$entry" ;; esac
  done
  if [ -z "$default" ]; then
    echo "warning: no generation of the system profile is @out@; the default entry stays" >&2
    return 0
  fi
  replace /boot/loader/default @out@
  replace /boot/loader/loader.conf "timeout 5
default $default"
  sync /boot/loader
}

replace() {
  printf '%s\n' "$2" >"$1.new"
  sync "$1.new"
  mv -f "$1.new" "$1"
}

is_true() { grep -qx "$2=true" "$1"; }
is_false() { grep -qx "$2=false" "$1"; }
is_active() { systemctl is-active --quiet "$1"; }
names() { [ -d "$1" ] && find "$1" -maxdepth 1 \( -name '*.service' -o -name '*.timer' -o -name '*.socket' -o -name '*.target' \) | sed 's|.*/||' | sort; }
listed() { echo "$*" | sed 's/^ *//; s/ *$//; s/  */, /g'; }

# Fills stop, skip, reload, restart, start: active units of the running toplevel that are gone or different.
compare_units() {
  current=$(readlink -f /run/current-system)/etc/systemd/system
  stop='' skip='' reload='' restart='' start=''
  for unit in $(names "$current"); do
    is_active "$unit" || continue
    if [ ! -e "$new/$unit" ]; then
      stop="$stop $unit"
    elif ! cmp -s "$current/$unit" "$new/$unit"; then
      if is_false "$new/$unit" X-RestartIfChanged; then skip="$skip $unit"
      elif is_true "$new/$unit" X-ReloadIfChanged; then reload="$reload $unit"
      elif is_false "$new/$unit" X-StopIfChanged; then restart="$restart $unit"
      else stop="$stop $unit" start="$start $unit"; fi
    fi
  done
}

say() { [ -z "$2" ] || echo "$1: $(listed "$2")" >&2; }
do_units() {
  verb=$1
  shift
  # shellcheck disable=SC2086
  [ -z "$*" ] || systemctl "$verb" -- $*
}

if ! check_inhibitors; then
  echo "Pre-switch checks failed" >&2
  exit 1
fi
[ "$NIXOS_ACTION" != check ] || exit 0

if [ "$NIXOS_ACTION" = switch ] || [ "$NIXOS_ACTION" = boot ]; then install_boot_loader || exit 1; fi
[ "${NIXOS_NO_SYNC:-}" = 1 ] || sync -f /nix/store
[ "$NIXOS_ACTION" != boot ] || exit 0

if [ -e /run/current-system/init-interface-version ] \
  && ! cmp -s /run/current-system/init-interface-version @out@/init-interface-version; then
  echo "Warning: the new NixOS configuration has an ‘init’ that is incompatible with the current configuration." >&2
  echo "The new configuration won't take effect until you reboot the system." >&2
  exit 100
fi

compare_units
if [ "$NIXOS_ACTION" = dry-activate ]; then
  say 'would stop the following units' "$stop"
  say 'would NOT restart the following changed units' "$skip"
  @out@/dry-activate >&2
  say 'would reload the following units' "$reload"
  say 'would restart the following units' "$restart"
  say 'would start the following units' "$start"
  exit 0
fi

status=0
active_before=$(systemctl list-units --plain --no-legend --state=active | awk '{ print $1 }')
say 'stopping the following units' "$stop"
do_units stop "$stop" 9>&-
say 'NOT restarting the following changed units' "$skip"
echo "activating the configuration..." >&2
@out@/activate 9>&- || {
  echo "Failed to run activate script" >&2
  status=2
}
systemctl reset-failed
systemctl daemon-reload || status=3
say 'reloading the following units' "$reload"
do_units reload "$reload"
say 'restarting the following units' "$restart"
do_units restart "$restart"
say 'starting the following units' "$start"
do_units start "$start"
# Starting the active target pulls in what it newly wants.
systemctl start multi-user.target

started=
for unit in $(names "$new"); do
  echo "$active_before" | grep -qx "$unit" || ! is_active "$unit" || started="$started $unit"
done
say 'the following new units were started' "$started"
failed=$(systemctl list-units --plain --no-legend --all | awk '$3 == "failed" || $4 == "auto-restart" { print $1 }')
if [ -n "$failed" ]; then
  echo "warning: the following units failed: $(listed $failed)" >&2
  systemctl status --no-pager --full $failed >&2
  status=4
fi
exit $status
