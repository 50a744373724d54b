# shellcheck shell=dash
# The boot trial: a system that cannot be switched to live is started once by the boot loader, while profile and boot
# default stay what they were. Proven there, it is committed; whatever else happens, the next boot is the old system.
#
#   STAGING    a generation and a loader entry are written; the default stays old
#   STAGED     they are there, and so is the watch over the next boot
#   REBOOTING  the loader was told to try it once, and the reboot was ordered
#   BOOT_TRIAL the new system runs: health, then AWAIT_CONFIRM, COMMITTING, COMMITTED as in a live trial
#   ROLLING_BACK ends by a reboot into the default; the old system writes ROLLED_BACK

BOOT_DEADMAN=slipway-boot-deadman

# run_boot_trial: the runner's part before the reboot; holds the lock until the shutdown ends it.
run_boot_trial() {
  find_protection
  [ "$PROTECTION" != none ] || refuse no-boot-protection "$WHY"
  [ "$(target "$PROFILE")" = "$PREVIOUS" ] ||
    refuse not-permanent "The profile leads to $(target "$PROFILE"), but $PREVIOUS runs: a boot would not go back to it."
  has_settled || echo no >"$DIR/baseline/settled"
  set_phase STAGING || refuse disk-full "The state in $STATE_ROOT cannot be written."
  stage || call_off "$STAGE_FAILURE" "$STAGE_DETAIL"
  set_phase STAGED || call_off disk-full "The state in $STATE_ROOT cannot be written."
  [ ! -e "$DIR/reject" ] || call_off "$(rejection)" 'Given up before the reboot.'
  set_phase REBOOTING || call_off disk-full "The state in $STATE_ROOT cannot be written."
  arm_once || call_off not-armed 'systemd-boot could not be told to try the system once; see activate.log.'
  reboot_now
  call_off reboot-failed "The reboot was ordered, but the host still runs after $BOOT_TIMEOUT s."
}

# call_off REASON DETAIL: nothing but a staged entry has to go.
call_off() {
  unstage || log "the staged entry could not be taken out; see rollback.log"
  refuse "$1" "$2"
}

# stage: false with STAGE_FAILURE and STAGE_DETAIL. The old system's installer writes the entries of all generations, and
# makes its own the default.
stage() {
  local entry
  STAGE_FAILURE=profile-failed STAGE_DETAIL='No generation could be made for the new system.'
  add_generation || return 1
  switch "$PREVIOUS" boot "$COMMIT_TIMEOUT" activate.log
  STAGE_FAILURE=bootloader-failed STAGE_DETAIL="Writing the boot loader's entries failed (exit $SWITCH_EXIT)."
  [ "$SWITCH_EXIT" = 0 ] || return 1
  entry=$(entries_of "$TOPLEVEL" | tail -n 1)
  STAGE_DETAIL="The boot loader got no entry for $TOPLEVEL."
  [ -n "$entry" ] || return 1
  STAGE_FAILURE=no-boot-fallback
  STAGE_DETAIL="The boot loader's default is not the running system: a failed boot would not come back to it."
  is_boot_default "$PREVIOUS" || return 1
  STAGE_FAILURE=bootloader-failed STAGE_DETAIL='The entry for the trial could not be written.'
  write_trial_entry "$entry" || return 1
  STAGE_FAILURE=no-boot-watch STAGE_DETAIL="Nothing would watch over the next boot: $CONTROL_UNITS cannot be written."
  write_watch
}

# add_generation: what `nix-env --set` does, but without moving the profile to it. The number is on disk before the link.
add_generation() {
  local link number last=0
  if [ "$TARGET_GENERATION" -gt 0 ] && [ "$(target "$PROFILE-$TARGET_GENERATION-link")" = "$TOPLEVEL" ]; then
    note_generation "$TARGET_GENERATION" found
    return
  fi
  for link in "$PROFILE"-*-link; do
    number=${link#"$PROFILE-"} number=$(number "${number%-link}" 0)
    [ "$number" -le "$last" ] || last=$number
  done
  if [ "$(target "$PROFILE-$last-link")" = "$TOPLEVEL" ]; then
    note_generation "$last" found
  else
    note_generation $((last + 1)) made && ln -s "$TOPLEVEL" "$PROFILE-$((last + 1))-link" && sync_path "${PROFILE%/*}"
  fi
}

note_generation() {
  echo "$1 $2" >"$DIR/staged" && sync_path "$DIR/staged" "$DIR"
}

# unstage: the entry, the generation and the watch go; the default becomes what it is meant to be, by its own installer.
unstage() {
  local n='' how='' base
  AFTER_ROLLBACK=''
  find_protection
  disarm_once
  [ ! -r "$DIR/staged" ] || read -r n how <"$DIR/staged"
  if [ -n "$n" ]; then
    base=$(target "$PROFILE")
    if [ "$how" = made ] && [ "$base" != "$TOPLEVEL" ] && [ "$(target "$PROFILE-$n-link")" = "$TOPLEVEL" ]; then
      rm -f "$PROFILE-$n-link"
    fi
    rm -f "$DIR/staged"
    switch "$base" boot "$COMMIT_TIMEOUT" rollback.log
    [ "$SWITCH_EXIT" = 0 ] || AFTER_ROLLBACK=ROLLBACK_FAILED
  fi
  clear_boot_trial
  [ -z "$AFTER_ROLLBACK" ]
}

# clear_boot_trial: what only this trial needed.
clear_boot_trial() {
  local file
  [ -n "${BOOT_FOLDER:-}" ] || BOOT_FOLDER=$(find_boot_folder)
  [ -z "$BOOT_FOLDER" ] || rm -f "$BOOT_FOLDER/loader/entries/$(trial_entry)"
  [ -e "$CONTROL_UNITS/$BOOT_DEADMAN.timer" ] || return 0
  systemctl stop "$BOOT_DEADMAN.timer" 2>/dev/null
  for file in "$BOOT_DEADMAN.timer" "$BOOT_DEADMAN.service" "sysinit.target.wants/$BOOT_DEADMAN.timer"; do
    rm -f "$CONTROL_UNITS/$file"
  done
  rmdir "$CONTROL_UNITS/sysinit.target.wants" 2>/dev/null
  sync_path "$CONTROL_UNITS"
  systemctl daemon-reload 2>/dev/null
}

# write_watch: slipway-recover.service begins the trial in the next boot; this timer is for a boot that does not get so
# far, or a trial that hangs. It runs also where the boot ends in emergency mode.
write_watch() {
  local longest wants=$CONTROL_UNITS/sysinit.target.wants
  longest=$((BOOT_TIMEOUT + HEALTH_TIMEOUT * 2 + CONFIRM_TIMEOUT + COMMIT_TIMEOUT * 2 + 60))
  keep_recovery && mkdir -p "$wants" 2>/dev/null || return 1
  {
    boot_unit_head
    printf '[Timer]\nOnBootSec=%ss\nAccuracySec=1s\n' "$longest"
  } >"$CONTROL_UNITS/$BOOT_DEADMAN.timer" &&
    {
      boot_unit_head
      printf '[Service]\nType=exec\nTimeoutStopSec=5\nExecStart=/bin/sh %s/activate.sh overdue %s\n' "$DIR" "$DIR"
    } >"$CONTROL_UNITS/$BOOT_DEADMAN.service" &&
    ln -sfn "../$BOOT_DEADMAN.timer" "$wants/$BOOT_DEADMAN.timer" &&
    sync_path "$CONTROL_UNITS/$BOOT_DEADMAN.timer" "$CONTROL_UNITS/$BOOT_DEADMAN.service" "$wants" "$CONTROL_UNITS" &&
    systemctl daemon-reload && [ "$(systemctl show --property=LoadState --value "$BOOT_DEADMAN.timer")" = loaded ]
}

boot_unit_head() {
  printf '[Unit]\nDescription=End a boot trial of Slipway that nobody ended (deploy %s)\n' "$ID"
  printf 'DefaultDependencies=no\nIgnoreOnIsolate=yes\n\n'
}

# reboot_now: returns only when the reboot did not come. Whoever stops us in the shutdown shall not see a failure.
reboot_now() {
  local deadline
  trap 'exit 0' TERM INT HUP
  systemctl reboot --no-block >/dev/null 2>&1 ||
    systemctl start --no-block --job-mode=replace-irreversibly reboot.target >>"$DIR/activate.log" 2>&1
  now
  deadline=$((NOW + BOOT_TIMEOUT * 100))
  while [ "$NOW" -lt "$deadline" ]; do
    sleep 1
    now
  done
}

# overdue_deploy: fired by the watch's timer: whoever still holds the trial hangs, or nobody ever began it.
overdue_deploy() {
  [ "$(boot_id)" != "$(first_line "$DIR/baseline/boot-id")" ] || exit 0
  until try_lock; do
    systemctl kill --signal=KILL "slipway-recover-$ID.service" 2>/dev/null
    pause
  done
  load_state
  if is_final; then clear_boot_trial; else end_overdue </dev/null; fi
}

end_overdue() {
  case $(active)-$PHASE in
  "$TOPLEVEL"-STAGED | "$TOPLEVEL"-REBOOTING)
    roll_back boot-timeout 'The new system started, but did not get as far as its trial.' ;;
  *) resolve ;;
  esac
}

# resolve_boot: ends or goes on with a boot trial, from what runs now and which boot this is.
resolve_boot() {
  if [ "$(boot_id)" = "$(first_line "$DIR/baseline/boot-id")" ]; then
    unstage || log 'the staged entry could not be taken out; see rollback.log'
    set_phase REFUSED "${REASON:-interrupted}" "${DETAIL:-The runner died in $PHASE, before the reboot.}"
  elif [ "$(active)" = "$TOPLEVEL" ]; then
    resolve_on_new
  else
    resolve_on_old
  fi
}

resolve_on_new() {
  case $PHASE in
  STAGED | REBOOTING) try_booted ;;
  COMMITTING) commit_booted ;;
  ROLLING_BACK) fall_back ;;
  *)
    if [ "$(boot_id)" = "$(first_line "$DIR/trial-boot-id")" ]; then
      roll_back "${REASON:-runner-died}" "${DETAIL:-The runner died in $PHASE.}"
    else
      roll_back rebooted-in-trial 'The host went down in the trial and came back on the new system.'
    fi
    ;;
  esac
}

# resolve_on_old: the reboot was the way back; what it means for the new system depends on how far that came.
resolve_on_old() {
  local phase=$PHASE
  if [ -z "$REASON" ]; then
    find_protection
    case $phase in
    REBOOTING)
      if is_armed; then REASON=interrupted DETAIL='The host went down before the boot loader tried the new system.'
      else REASON=fell-back DETAIL='The new system did not come up: the boot loader went back to the old one.'; fi
      ;;
    BOOT_TRIAL | AWAIT_CONFIRM)
      REASON=rebooted-in-trial DETAIL='The host went down during the trial and booted its old system.' ;;
    COMMITTING)
      REASON=rebooted-in-commit DETAIL='It was interrupted while the system was made permanent.' ;;
    *) REASON=interrupted DETAIL="The host went down in $phase." ;;
    esac
  fi
  condemn "$REASON"
  [ "$(profile_generation)" = "$(first_line "$DIR/baseline/generation")" ] ||
    in_profile --switch-generation "$(first_line "$DIR/baseline/generation")"
  unstage
  await_boot || log 'the old system has not finished its start'
  settle
  set_phase "${AFTER_ROLLBACK:-ROLLED_BACK}"
}

# try_booted: the trial proper.
try_booted() {
  boot_id >"$DIR/trial-boot-id"
  sync_path "$DIR/trial-boot-id" "$DIR"
  set_phase BOOT_TRIAL || { roll_back disk-full "The state in $STATE_ROOT cannot be written."; finish; }
  await_boot || give_up boot-timeout "The new system had not finished its start after $BOOT_TIMEOUT s."
  passes_boot_checks || give_up health-failed "$BOOT_CHECK_FAILURE"
  await_health || give_up health-failed "$(describe_health)"
  await_confirmation
  nobody_interfered || { roll_back conflict "$CONFLICT"; finish; }
  set_phase COMMITTING || { roll_back disk-full "The state in $STATE_ROOT cannot be written."; finish; }
  commit_booted
}

# await_boot: until systemd has nothing left to start. False when that takes too long, unless the old system was so too.
await_boot() {
  local deadline
  now
  deadline=$((NOW + BOOT_TIMEOUT * 100))
  while [ "$NOW" -lt "$deadline" ] && [ ! -e "$DIR/reject" ]; do
    ! has_settled || return 0
    pause
    now
  done
  [ -e "$DIR/reject" ] || [ "$(first_line "$DIR/baseline/settled")" = no ]
}

# passes_boot_checks: systemd's own gate for a good boot, before which units can be ordered that must succeed
# (`RequiredBy=boot-complete.target`); nothing pulls it in for an entry that is not counted. False with BOOT_CHECK_FAILURE.
passes_boot_checks() {
  local target=boot-complete.target
  [ "$(systemctl show --property=LoadState --value $target 2>/dev/null)" = loaded ] || return 0
  BOOT_CHECK_FAILURE="$target was not reached: one of the units that it requires failed."
  timeout "$HEALTH_TIMEOUT" systemctl start --quiet $target >>"$DIR/activate.log" 2>&1 </dev/null
}

has_settled() {
  case $(systemctl is-system-running 2>/dev/null) in initializing | starting | '') return 1 ;; esac
}

# commit_booted: profile and default move to the very generation that was tried.
commit_booted() {
  [ ! -r "$DIR/staged" ] || read -r TARGET_GENERATION _ <"$DIR/staged"
  commit_now || roll_back "$COMMIT_FAILURE" "$COMMIT_DETAIL"
  finish
}

# fall_back: the end of a failed boot trial while the new system runs: back by a reboot, once the default is the old one.
fall_back() {
  find_protection
  disarm_once
  if ! is_boot_default "$PREVIOUS"; then switch "$PREVIOUS" boot "$COMMIT_TIMEOUT" rollback.log; fi
  if is_boot_default "$PREVIOUS"; then
    reboot_now
    DETAIL="$DETAIL The reboot into the old system was ordered, but did not come."
  else
    DETAIL="$DETAIL The boot default could not be set back to $PREVIOUS; see rollback.log."
  fi
  HEALTHY=unknown
  set_phase ROLLBACK_FAILED "$REASON" "$DETAIL"
}
