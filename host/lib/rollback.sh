# shellcheck shell=dash
# The way back, and what resolves one deploy whose runner died. All of it needs the lock.

# roll_back REASON DETAIL: to the system that ran before the trial, by its path, never "one generation back".
roll_back() {
  set_phase ROLLING_BACK "$1" "$2"
  condemn "$1"
  systemctl stop "slipway-switch-$ID-*.service" 2>/dev/null
  if [ "$1" = conflict ] && [ "$(active)" != "$TOPLEVEL" ]; then
    [ "$OPERATION" != boot-trial ] || unstage
    # Somebody else's system runs now: theirs to keep, ours is gone.
    judge_health failing
    set_phase ROLLED_BACK
    return
  fi
  [ "$OPERATION" != boot-trial ] || { fall_back; return; }
  if [ "$OPERATION" = boot ]; then # nothing was activated, so nothing is to be activated again
    judge_health failing
    set_phase "${AFTER_ROLLBACK:-ROLLED_BACK}"
    return
  fi
  activate_previous || activate_previous
  if [ "$(active)" != "$PREVIOUS" ] || [ "$SWITCH_EXIT" = -1 ]; then
    HEALTHY=unknown
    set_phase ROLLBACK_FAILED "$1" "$DETAIL Activating $PREVIOUS again failed (exit $SWITCH_EXIT); see rollback.log."
    return
  fi
  settle
  [ "$SWITCH_EXIT" != 2 ] || HEALTHY=no
  set_phase "${AFTER_ROLLBACK:-ROLLED_BACK}"
}

activate_previous() {
  switch "$PREVIOUS" test "$ROLLBACK_TIMEOUT" rollback.log
  case $SWITCH_EXIT in 0 | 4) ;; *) return 1 ;; esac
}

# settle: gives the old services a moment to come back, then says whether they did.
settle() {
  local deadline
  now
  deadline=$((NOW + 1000))
  while :; do
    look failing
    now
    HEALTHY=yes
    [ -n "$FAILED_UNITS$BROKEN" ] || return 0
    HEALTHY=no
    [ "$NOW" -lt "$deadline" ] || return 0
    pause
  done
}

# revert_profile: undoes set_profile and the boot default; the generation that we made goes away.
revert_profile() {
  local old made
  old=$(first_line "$DIR/baseline/generation") made=$(profile_generation)
  AFTER_ROLLBACK=''
  [ "$KIND" = system ] || return 0 # goes back together with its script
  [ "$made" != "$old" ] || return 0 # nothing was set, so the boot loader was not asked either
  if [ "$old" -gt 0 ]; then
    in_profile --switch-generation "$old"
    [ "$made" = "$TARGET_GENERATION" ] || in_profile --delete-generations "$made"
  else
    in_profile --set "$PREVIOUS"
  fi
  switch "$(target "$PROFILE")" boot "$COMMIT_TIMEOUT" rollback.log
  if [ "$SWITCH_EXIT" != 0 ] || [ "$(profile_generation)" = "$made" ]; then AFTER_ROLLBACK=ROLLBACK_FAILED; fi
}

# resolve: ends a deploy whose runner is gone, wherever it was. The rows of the failure table:
#   before ACTIVATING          nothing was changed                     -> REFUSED
#   rebooted, old system runs  the reboot was the rollback              -> ROLLED_BACK
#   COMMITTING, new one runs   it was proven and confirmed: finish it   -> COMMITTED
#   COMMITTING, old one runs   profile and boot default may disagree: both back to old -> ROLLED_BACK
#   else                       activate the old system                  -> ROLLED_BACK | ROLLBACK_FAILED
#   a boot trial               see resolve_boot
resolve() {
  [ "$OPERATION-$PHASE" = boot-trial-REBOOTING ] || log "resolving a deploy that was interrupted in $PHASE"
  systemctl stop "slipway-switch-$ID-*.service" "slipway-hook-$ID-*.service" 2>/dev/null
  case $OPERATION-$PHASE in
  *-PREPARED | *-ARMED) set_phase REFUSED interrupted 'The runner died before anything changed.' ;;
  boot-trial-*) resolve_boot ;;
  *-COMMITTING) resolve_commit ;;
  *) resolve_trial ;;
  esac
  systemctl stop "slipway-deadman-$ID.timer" 2>/dev/null
  rm -f "$GC_ROOTS/pending-$ID" "$GC_ROOTS/previous-$ID" "$DIR/.ballast"
  [ "$OPERATION" != boot-trial ] || clear_boot_trial
  ! is_final || after_hooks
}

resolve_commit() {
  if [ "$(active)" = "$TOPLEVEL" ]; then
    commit_now || roll_back "$COMMIT_FAILURE" "$COMMIT_DETAIL"
  else
    revert_profile
    judge_health failing
    set_phase "${AFTER_ROLLBACK:-ROLLED_BACK}" rebooted-in-commit 'It was interrupted while the system was made permanent.'
  fi
}

resolve_trial() {
  if [ "$KIND" = profile ] || [ "$(boot_id)" = "$(first_line "$DIR/baseline/boot-id")" ]; then
    roll_back "${REASON:-runner-died}" "${DETAIL:-The runner died in $PHASE.}"
  elif [ "$(active)" = "$TOPLEVEL" ]; then
    roll_back "${REASON:-rebooted-in-trial}" 'The host went down in the trial and came back on the new system.'
  else
    [ -n "$REASON" ] || { REASON=rebooted-in-trial DETAIL='The host went down during the trial and booted its old system.'; }
    condemn "$REASON"
    settle
    set_phase ROLLED_BACK
  fi
}

# deadman DIR: fired by the timer, or at once by systemd when the runner's unit fails. Stops a runner that hangs.
deadman() {
  until try_lock; do
    load_state
    ! is_final || exit 0
    # The holder may be another deploy that resolves us itself; only our own runner is ours to stop.
    systemctl kill --signal=KILL "slipway-activate-$ID.service" 2>/dev/null
    pause
  done
  load_state
  is_final || resolve
}
