# shellcheck shell=dash
# The trial: what the runner does between PREPARED and a final phase. Runs inside unit slipway-activate-<id>.

# run_trial DIR: the runner. Leaves by a final phase, or dies and leaves the rest to the dead-man.
run_trial() {
  trap 'exit 1' TERM INT HUP
  await_lock "$LOCK_TIMEOUT" || refuse_wait lock-held "Another deploy holds this host: $(lock_holder)."
  load_state
  ! is_final || exit 0
  resolve_others
  sweep_roots
  await_switch_lock || refuse_wait lock-held 'nixos-rebuild or another switch-to-configuration is at work.'
  PREVIOUS=$(active)
  use_path
  guard
  run_before_hooks
  take_baseline
  [ "$OPERATION" != boot ] || stage_boot
  deadman_is_armed || refuse not-armed 'The dead-man timer could not be set.'
  set_phase ARMED || refuse disk-full "The state in $STATE_ROOT cannot be written."
  [ "$OPERATION" != boot-trial ] || run_boot_trial
  activate
  set_phase TRIAL
  await_health || give_up health-failed "$(describe_health)"
  await_confirmation
  [ "$OPERATION" != test ] || keep test 'Running, but not permanent: the next boot brings the old system.'
  commit
}

# run_before_hooks: they may take long, and somebody may have switched meanwhile.
run_before_hooks() {
  [ -s "$DIR/hooks" ] || return 0
  GIVES_WAY=yes
  before_hooks || refuse_wait hook-failed "$HOOK_FAILURE"
  GIVES_WAY=''
  await_switch_lock || refuse_wait lock-held 'nixos-rebuild or another switch-to-configuration is at work.'
  PREVIOUS=$(active)
  use_path
}

# refuse REASON DETAIL: only while nothing has changed.
refuse() {
  set_phase REFUSED "$1" "$2"
  finish
}

# refuse_wait REASON DETAIL: a wait that ended without us; cancelled counts before timed out.
refuse_wait() {
  [ ! -e "$DIR/reject" ] || refuse "$(rejection)" 'Given up before anything changed.'
  refuse "$1" "$2"
}

# finish: after a final phase: nothing of this deploy stays behind but its folder.
finish() {
  systemctl stop "slipway-deadman-$ID.timer" 2>/dev/null
  rm -f "$GC_ROOTS/pending-$ID" "$GC_ROOTS/previous-$ID" "$DIR/.ballast"
  [ "$OPERATION" != boot-trial ] || clear_boot_trial
  load_state
  is_final || exit 1 # a final state that could not be written is for the dead-man to repeat
  after_hooks
  exit 0
}

await_switch_lock() {
  local deadline
  now
  deadline=$((NOW + LOCK_TIMEOUT * 100))
  while switch_is_locked; do
    now
    if [ "$NOW" -ge "$deadline" ] || [ -e "$DIR/reject" ]; then return 1; fi
    pause
  done
}

deadman_is_armed() {
  ! is_gone "slipway-deadman-$ID.timer"
}

# guard: what forbids a live switch; asked under the lock, right before the activation.
guard() {
  local said
  [ ! -e "$DIR/reject" ] || refuse "$(rejection)" 'Given up before anything changed.'
  [ "$KIND" = system ] || return 0
  [ -n "$PREVIOUS" ] || refuse no-previous-system 'Nothing is at /run/current-system, so there is nothing to go back to.'
  said=$(check_secrets 2>&1) || refuse secrets-unreadable "$said"
  case $OPERATION in boot | boot-trial) return 0 ;; esac
  [ "$(first_line "$PREVIOUS/init-interface-version")" = "$(first_line "$TOPLEVEL/init-interface-version")" ] ||
    refuse reboot-required 'The init interface differs: this system cannot be switched to while another runs.'
  if [ -e "$TOPLEVEL/switch-inhibitors" ] || [ -e "$PREVIOUS/switch-inhibitors" ]; then
    said=$("$TOPLEVEL/bin/switch-to-configuration" check 2>&1 9>&-) || refuse switch-inhibited "$said"
  fi
}

# activate: `switch-to-configuration test`; the exit codes are those of NixOS' switch-to-configuration.
activate() {
  set_phase ACTIVATING || refuse disk-full "The state in $STATE_ROOT cannot be written."
  switch "$TOPLEVEL" test "$ACTIVATION_TIMEOUT" activate.log
  ACTIVATION_EXIT=$SWITCH_EXIT
  case $SWITCH_EXIT in
  0 | 4) ;; # 4: some unit failed; whether that is new is for the health checks to say
  11) refuse lock-held 'Another switch-to-configuration is at work.' ;;
  100) refuse reboot-required 'The init interface differs: this system cannot be switched to while another runs.' ;;
  -1) give_up activation-timeout "The activation did not end within $ACTIVATION_TIMEOUT s." ;;
  2) give_up activation-failed 'The activate script failed (exit 2).' ;;
  *) give_up activation-failed "switch-to-configuration test ended with exit code $SWITCH_EXIT." ;;
  esac
}

# switch TOPLEVEL ACTION SECONDS LOG: runs switch-to-configuration in a unit of its own, so that a hang or our own
# death leaves nothing of it behind. Sets SWITCH_EXIT; -1 when it did not end in time. Waits while its lock is held.
switch() {
  local deadline
  now
  deadline=$((NOW + LOCK_TIMEOUT * 100))
  while :; do
    switch_once "$1" "$2" "$3" "$4"
    now
    if [ "$SWITCH_EXIT" != 11 ] || [ "$NOW" -ge "$deadline" ]; then return; fi
    sleep 1
  done
}

switch_once() {
  SWITCHES=$((${SWITCHES:-0} + 1))
  run_unit "slipway-switch-$ID-$$-$SWITCHES" "$3" "$4" switch "$DIR" "$1" "$2"
  SWITCH_EXIT=$UNIT_EXIT
}

# run_unit UNIT SECONDS LOG COMMAND…: `activate.sh COMMAND… RESULT` in a unit, waited for. Sets UNIT_EXIT to what it
# wrote to RESULT; -1 when it did not end in time, or, with GIVES_WAY, when a driver rejected the trial.
run_unit() {
  local unit=$1 seconds=$2 out=$3 result=$RUN_ROOT/$1 looks=0
  shift 3
  rm -f "$result"
  in_unit "$unit" "$out" -p "RuntimeMaxSec=$seconds" -p TimeoutStopSec=5 \
    -E NIXOS_INSTALL_BOOTLOADER=0 -- /bin/sh "$DIR/activate.sh" "$@" "$result" || log "$unit could not be started"
  until [ -s "$result" ]; do
    looks=$((looks + 1))
    # Once a second: is it still there? A unit that was killed leaves no result.
    if [ $((looks % 10)) = 0 ] && is_gone "$unit" && [ ! -s "$result" ]; then break; fi
    if [ -n "${GIVES_WAY:-}" ] && [ -e "$DIR/reject" ]; then break; fi
    pause
  done
  UNIT_EXIT=-1
  if [ -s "$result" ]; then read -r UNIT_EXIT <"$result"; else systemctl stop "$unit" 2>/dev/null; fi
  rm -f "$result"
}

# in_unit NAME LOG [systemd-run options] -- COMMAND…: a transient unit that owes nothing to who started it.
in_unit() {
  local unit=$1 out=$DIR/$2
  shift 2
  systemd-run --quiet --collect --no-ask-password --service-type=exec --unit="$unit" --working-directory=/ \
    -p "StandardOutput=append:$out" -p "StandardError=append:$out" -E "PATH=$PATH" -E "HOME=$HOME" "$@" 9>&- </dev/null
}

# await_confirmation: push waits for the token over a fresh connection (confirm DIR), pull for its agent's probes.
# An empty token hash means for push: nobody will confirm.
await_confirmation() {
  local deadline
  if [ "$ORIGIN" = push ] && [ -z "$TOKEN_HASH" ]; then return; fi
  set_phase AWAIT_CONFIRM
  now
  deadline=$((NOW + CONFIRM_TIMEOUT * 100))
  until [ -e "$DIR/confirm" ]; do
    [ ! -e "$DIR/reject" ] || give_up
    now
    [ "$NOW" -lt "$deadline" ] || give_up confirm-timeout "Nobody confirmed within $CONFIRM_TIMEOUT s."
    pause
  done
  look excused
  [ -z "$FAILED_UNITS$BROKEN" ] || await_health || give_up health-failed "$(describe_health)"
}

rejection() {
  local why=''
  [ ! -r "$DIR/reject" ] || read -r why _ <"$DIR/reject"
  printf '%s' "${why:-cancelled}"
}

# keep REASON DETAIL: the end without a commit: the new one runs, profile and boot default stay what they were.
keep() {
  judge_health excused
  set_phase KEPT "$1" "$2 $(describe_health)"
  finish
}

# stage_boot: no trial: the new system becomes the boot default without being activated, because somebody said so.
stage_boot() {
  set_phase COMMITTING || refuse disk-full "The state in $STATE_ROOT cannot be written."
  commit_now || roll_back "$COMMIT_FAILURE" "$COMMIT_DETAIL"
  finish
}

# give_up [REASON DETAIL]: rolls back; a rejection by the driver says why itself.
give_up() {
  local why detail=''
  if [ "$AUTO_ROLLBACK" = no ] && [ ! -e "$DIR/reject" ] && [ "$1" != confirm-timeout ]; then keep "$1" "$2"; fi
  if [ -e "$DIR/reject" ]; then
    read -r why detail <"$DIR/reject" || :
    roll_back "${why:-cancelled}" "$detail"
  else
    roll_back "$1" "$2"
  fi
  finish
}

# commit: the first and only place where the profile and the boot default change.
commit() {
  nobody_interfered || { roll_back conflict "$CONFLICT"; finish; }
  set_phase COMMITTING || { roll_back disk-full "The state in $STATE_ROOT cannot be written."; finish; }
  commit_now || { roll_back "$COMMIT_FAILURE" "$COMMIT_DETAIL"; finish; }
  finish
}

# nobody_interfered: profile and running system are what they were, and what we made them.
nobody_interfered() {
  CONFLICT=''
  [ "$KIND" = profile ] || [ "$(target "$PROFILE")" = "$(first_line "$DIR/baseline/profile")" ] ||
    CONFLICT="Somebody set the system profile to $(target "$PROFILE") during the trial."
  [ "$(active)" = "$TOPLEVEL" ] ||
    CONFLICT="Somebody activated $(active) during the trial."
  [ -z "$CONFLICT" ]
}

# commit_now: also finishes a commit that was interrupted. False after the profile was put back.
commit_now() {
  COMMIT_FAILURE=profile-failed COMMIT_DETAIL='The system profile could not be set.'
  set_profile || { revert_profile; return 1; }
  switch "$TOPLEVEL" boot "$COMMIT_TIMEOUT" activate.log
  if [ "$SWITCH_EXIT" != 0 ]; then
    COMMIT_FAILURE=bootloader-failed COMMIT_DETAIL="Installing the boot loader failed (exit $SWITCH_EXIT)."
    revert_profile
    return 1
  fi
  [ "$OPERATION" != boot-trial ] || bless "$TOPLEVEL"
  GENERATION=$(profile_generation)
  judge_health excused
  REBOOT=false
  if [ "$KIND" = profile ]; then
    DETAIL=$(describe_health)
    absolve
    set_phase COMMITTED '' "$DETAIL" || :
    return 0
  fi
  ! needs_reboot "$TOPLEVEL" || REBOOT=true
  cp "$DIR/checks" "$STATE_ROOT/.checks.new" && mv -f "$STATE_ROOT/.checks.new" "$STATE_ROOT/checks.committed"
  DETAIL=$(describe_health)
  if [ "$OPERATION" = boot ] && [ "$(running_system)" != "$TOPLEVEL" ]; then
    REBOOT=true DETAIL='Staged for the next boot; not activated.'
  fi
  [ $REBOOT = false ] || DETAIL="${DETAIL:+$DETAIL }A reboot is needed to run its kernel."
  absolve
  # Should this not get to the disk, the next look finds COMMITTING with the new system running, and ends it again.
  set_phase COMMITTED '' "$DETAIL" || :
}

# set_profile: a rollback goes back to its generation's number, everything else makes a new one.
set_profile() {
  if [ "$TARGET_GENERATION" -gt 0 ] && [ "$(target "$PROFILE-$TARGET_GENERATION-link")" = "$TOPLEVEL" ]; then
    in_profile --switch-generation "$TARGET_GENERATION"
  else
    in_profile --set "$TOPLEVEL"
  fi
}

in_profile() {
  as_user timeout "$COMMIT_TIMEOUT" nix-env --profile "$PROFILE" "$@" >>"$DIR/activate.log" 2>&1 9>&- </dev/null
}
