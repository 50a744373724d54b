# shellcheck shell=dash
# Who ends what nobody ended: at boot, when an agent starts, when the next deploy comes, when a client looks.

# Where systemd keeps what was set by hand for all boots to come; NixOS leaves it alone, and its own units are elsewhere.
CONTROL_UNITS=/etc/systemd/system.control
RECOVERY=slipway-recover.service

# keep_recovery: from the first deploy on a unit runs `recover` after each boot, unless the system has one of that name.
# The unit is written once; which runner it starts is the newest deploy's. False where /etc cannot be written.
keep_recovery() {
  keep_runner || return 1
  [ ! -e "/etc/systemd/system/$RECOVERY" ] || return 0
  [ ! -L "$CONTROL_UNITS/multi-user.target.wants/$RECOVERY" ] || return 0
  mkdir -p "$CONTROL_UNITS/multi-user.target.wants" 2>/dev/null &&
    recovery_unit >"$CONTROL_UNITS/$RECOVERY" &&
    ln -sfn "../$RECOVERY" "$CONTROL_UNITS/multi-user.target.wants/$RECOVERY" &&
    sync_path "$CONTROL_UNITS/$RECOVERY" "$CONTROL_UNITS" "$CONTROL_UNITS/multi-user.target.wants"
}

keep_runner() {
  cmp -s "$DIR/activate.sh" "$STATE_ROOT/activate.sh" || {
    cp "$DIR/activate.sh" "$STATE_ROOT/.activate.sh.new" && sync_path "$STATE_ROOT/.activate.sh.new" &&
      mv -f "$STATE_ROOT/.activate.sh.new" "$STATE_ROOT/activate.sh"
  }
}

# After multi-user.target, because a system that is still starting fails its checks.
recovery_unit() {
  printf '[Unit]\nDescription=End a deploy of Slipway that was interrupted\nAfter=multi-user.target\n'
  printf 'ConditionPathExists=%s\n' "$STATE_ROOT/activate.sh"
  printf '[Service]\nType=exec\nExecStart=/bin/sh %s recover\n' "$STATE_ROOT/activate.sh"
}

# recover [--no-wait]: begins to resolve whatever was interrupted, and waits for it.
recover() {
  local folder
  for folder in "$STATE_ROOT"/deploy/*/; do
    load "$folder" || continue
    ! is_orphan || recover_one
  done
  [ "${1:-}" != --no-wait ] || return 0
  for folder in "$STATE_ROOT"/deploy/*/; do
    load "$folder" || continue
    while systemctl is-active --quiet "slipway-recover-$ID.service"; do pause; done
    load_state
    [ -z "$PHASE" ] || is_final || echo "slipway: $ID is still $PHASE" >&2
  done
  sweep_roots
}

# sweep_roots: roots of deploys that have ended: somebody died between the final state and the last of the cleaning.
sweep_roots() {
  local root
  for root in "$GC_ROOTS"/pending-* "$GC_ROOTS"/previous-*; do
    [ -L "$root" ] || continue
    ( load "$STATE_ROOT/deploy/${root##*-}" && ! is_final ) || rm -f "$root"
  done
}

# resolve_others: whoever gets the lock next must not build on a trial that nobody finished.
resolve_others() {
  local folder
  for folder in "$STATE_ROOT"/deploy/*/; do
    [ "$folder" != "$DIR/" ] || continue
    (
      load "$folder" && [ -n "$PHASE" ] || exit 0
      is_final || is_waiting || { use_path; resolve; }
    )
  done
}

# is_waiting: a runner that has not begun: alive, or being started at this moment; not one of an earlier boot.
is_waiting() {
  [ "$PHASE" = PREPARED ] || return 1
  [ ! -s "$DIR/boot-id" ] || [ "$(first_line "$DIR/boot-id")" = "$(boot_id)" ] || return 1
  [ $(($(date +%s) - SINCE)) -lt 30 ] || ! is_gone "slipway-activate-$ID.service"
}

# is_orphan: not final, and nobody works on it.
is_orphan() {
  if [ -z "$PHASE" ] || is_final || is_waiting; then return 1; fi
  [ "$OPERATION" != boot-trial ] || is_gone "$BOOT_DEADMAN.service" || return 1
  is_gone "slipway-activate-$ID.service" "slipway-deadman-$ID.service" "slipway-recover-$ID.service"
}

# recover_one: in a unit of its own, so that it survives whoever asked.
recover_one() {
  in_unit "slipway-recover-$ID" activate.log -- /bin/sh "$DIR/activate.sh" deadman "$DIR" 2>/dev/null
}

# prune_deploys: the folders of old deploys go; names sort by time.
prune_deploys() {
  local folder count=0
  for folder in "$STATE_ROOT"/deploy/*/; do count=$((count + 1)); done
  for folder in "$STATE_ROOT"/deploy/*/; do
    [ "$count" -gt "$KEEP_DEPLOYS" ] || return 0
    ( load "$folder" && is_final && rm -rf "$folder" ) && count=$((count - 1))
  done
}
