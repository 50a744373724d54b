#!/bin/sh
# shellcheck shell=dash
# Slipway's activation runner: the only code that changes which system a host runs. Needs sh, coreutils, util-linux'
# flock, nix and systemd. It travels as one file (the parts below put in place of the lines that source them) into
# /var/lib/slipway/deploy/<id>/ and works from there. State machine, files and reasons: docs/ARCHITECTURE.md.
#
#   start DIR [--force]   check, set the dead-man timer, start the runner in its own unit; prints the state
#   run DIR               the runner itself; only systemd calls it
#   confirm DIR           commit the trial; for push the one-time token comes on stdin. Exit 3: not waiting, 4: wrong token
#   reject DIR [WHY [DETAIL]]   give the trial up: it rolls back (before ACTIVATING: it is refused)
#   status DIR [--follow] the state, one JSON line; --follow prints `state {json}`, `log text`, `hook {json}`, then `end`
#   deadman DIR           resolve a deploy whose runner died or hangs; only systemd calls it
#   overdue DIR           the same for a boot trial after its reboot; only systemd calls it
#   recover [--no-wait]   at boot or agent start: resolve whatever was interrupted, and wait for it
#   check DIR             whether this host can decrypt what the new system needs
#   list                  the states of all deploys on record
#   facts [TOPLEVEL [PROFILE USER]] | generations [PROFILE USER] | quarantined | forgive TOPLEVEL
set -u
umask 022
here=${0%/*}
. "$here/lib/state.sh"
. "$here/lib/system.sh"
. "$here/lib/quarantine.sh"
. "$here/lib/profile.sh"
. "$here/lib/checks.sh"
. "$here/lib/secrets.sh"
. "$here/lib/hooks.sh"
. "$here/lib/trial.sh"
. "$here/lib/rollback.sh"
. "$here/lib/recover.sh"
. "$here/lib/boot-loader.sh"
. "$here/lib/boot-trial.sh"

KEEP_DEPLOYS=30

main() {
  local command=${1:-} folder=${2:-}
  [ $# -eq 0 ] || shift
  PREVIOUS='' DIR='' ID='' KIND=system PROFILE=$SYSTEM_PROFILE RUN_AS=root
  use_path
  case $command in
  facts) print_facts "$@" </dev/null ;;
  generations) ASKED_PROFILE=${1:-} RUN_AS=${2:-root} && use_profile && print_generations </dev/null ;;
  quarantined) [ ! -r "$STATE_ROOT/quarantine" ] || cat "$STATE_ROOT/quarantine" ;;
  forgive) quarantine_set "$1" || die "The quarantine in $STATE_ROOT cannot be written." ;;
  list) list_deploys </dev/null ;;
  recover) recover "$@" </dev/null ;;
  switch) run_switch "$@" ;;
  hook) run_hook "$@" ;;
  start | run | confirm | reject | status | deadman | overdue | check)
    load "$folder" || die "No deploy in ${folder:-(no folder given)}."
    shift
    use_path
    "$command"_deploy "$@"
    ;;
  *) die "usage: activate.sh start|run|confirm|reject|status|deadman|check DIR, recover, facts, generations" ;;
  esac
}

die() {
  echo "slipway: $*" >&2
  exit 2
}

# start_deploy [--force]: the state is on disk before anything is started, so whatever happens next can be resolved.
start_deploy() {
  [ -z "$PHASE" ] || die "The deploy $ID was started already."
  mkdir -p "$RUN_ROOT"
  keep_ballast || die "There is no room for the state of a deploy in $STATE_ROOT."
  keep_profile || die "There is no room for the state of a deploy in $STATE_ROOT."
  boot_id >"$DIR/boot-id"
  sync_path "$DIR/activate.sh" "$DIR/intent.json" "$DIR/checks" "$DIR/hooks" "$DIR/boot-id" "$DIR"
  keep_recovery || log 'Nothing ends a deploy at boot here; the next status or deploy would.'
  trap state_line EXIT
  PREVIOUS=$(active)
  use_path
  set_phase PREPARED
  refusal=$(find_refusal "${1:-}") || refuse "${refusal%% *}" "${refusal#* }"
  mkdir -p "$GC_ROOTS"
  ln -sfn "$TOPLEVEL" "$GC_ROOTS/pending-$ID"
  [ -z "$PREVIOUS" ] || ln -sfn "$PREVIOUS" "$GC_ROOTS/previous-$ID"
  prune_deploys
  launch || refuse not-started 'systemd did not start the runner; see activate.log.'
}

# find_refusal [--force]: false and `REASON sentence` when this toplevel has no business here.
find_refusal() {
  local hostname why
  nix-store --check-validity "$TOPLEVEL" 2>/dev/null </dev/null ||
    { echo "toplevel-missing $TOPLEVEL is not in this host's store."; return 1; }
  [ "$KIND" = system ] || { find_profile_refusal "$@"; return; }
  [ -e "$TOPLEVEL/nixos-version" ] || { echo "not-a-toplevel $TOPLEVEL has no nixos-version."; return 1; }
  [ -x "$TOPLEVEL/bin/switch-to-configuration" ] ||
    { echo "not-a-toplevel $TOPLEVEL has no bin/switch-to-configuration."; return 1; }
  runs_here "$(first_line "$TOPLEVEL/system")" ||
    { echo "wrong-architecture The system is for $(first_line "$TOPLEVEL/system"), this machine is $(uname -m)."; return 1; }
  [ "${1:-}" != --force ] || return 0
  hostname=$(first_line "$TOPLEVEL/etc/hostname")
  [ -z "$hostname" ] || [ "$hostname" = "$(uname -n)" ] ||
    { echo "wrong-host The system is for host $hostname, this machine is $(uname -n)."; return 1; }
  why=$(quarantine_reason "$TOPLEVEL")
  [ -z "$why" ] || { echo "quarantined This system failed here before ($why)."; return 1; }
}

find_profile_refusal() {
  local why
  [ -x "$TOPLEVEL/deploy-rs-activate" ] ||
    { echo "not-activatable $TOPLEVEL has no deploy-rs-activate."; return 1; }
  id -u "$RUN_AS" >/dev/null 2>&1 || { echo "no-such-user The profile is for user $RUN_AS, whom this host does not know."; return 1; }
  [ "${1:-}" != --force ] || return 0
  why=$(quarantine_reason "$TOPLEVEL")
  [ -z "$why" ] || { echo "quarantined This profile failed here before ($why)."; return 1; }
}

# launch: the dead-man first, then the runner. systemd starts the dead-man's service at once when the runner's unit
# fails, however it died; the timer is for a runner that hangs.
launch() {
  local longest
  longest=$((LOCK_TIMEOUT * 3 + ACTIVATION_TIMEOUT + HEALTH_TIMEOUT * 2 + CONFIRM_TIMEOUT))
  [ "$OPERATION" != boot-trial ] || longest=$((longest + BOOT_TIMEOUT))
  longest=$((longest + COMMIT_TIMEOUT * 2 + ROLLBACK_TIMEOUT * 2 + HOOK_TIMEOUT + 60))
  in_unit "slipway-deadman-$ID" activate.log --on-active="${longest}s" --timer-property=AccuracySec=1s \
    -- /bin/sh "$DIR/activate.sh" deadman "$DIR" >>"$DIR/activate.log" 2>&1 &&
    in_unit "slipway-activate-$ID" activate.log -p "OnFailure=slipway-deadman-$ID.service" -p TimeoutStopSec=5 \
      -- /bin/sh "$DIR/activate.sh" run "$DIR" >>"$DIR/activate.log" 2>&1
}

run_deploy() {
  run_trial </dev/null
}

deadman_deploy() {
  deadman </dev/null
}

# run_switch DIR TOPLEVEL ACTION RESULT: the inside of a slipway-switch unit.
run_switch() {
  load "$1" || die "No deploy in $1."
  case $KIND-$3 in
  system-*) "$2/bin/switch-to-configuration" "$3" </dev/null ;;
  profile-test) switch_profile "$2" ;;
  *) true ;; # a profile has no boot default
  esac
  echo $? >"$4.new"
  mv -f "$4.new" "$4"
}

# confirm_deploy: leaves a word for the runner, which alone writes the state.
confirm_deploy() {
  local token='' hash
  [ "$PHASE" = AWAIT_CONFIRM ] || { state_line; exit 3; }
  IFS= read -r token || :
  hash=$(printf '%s' "$token" | sha256sum)
  if [ -n "$TOKEN_HASH" ] && [ "${hash%% *}" != "$TOKEN_HASH" ]; then
    state_line
    exit 4
  fi
  : >"$DIR/confirm"
  state_line
}

reject_deploy() {
  local why
  why=$(printf '%s' "${1:-cancelled}" | tr -cd 'a-z-')
  is_final || {
    printf '%s %s\n' "$why" "$(plain "${2:-The driver gave the trial up.}")" >"$DIR/.reject.new"
    mv -f "$DIR/.reject.new" "$DIR/reject"
  }
  state_line
}

check_deploy() {
  check_secrets </dev/null
}

# status_deploy [--follow]: following also wakes a deploy whose runner a reboot took away.
status_deploy() {
  local quiet=0
  [ -n "$PHASE" ] || die "The deploy $ID was never started."
  [ "${1:-}" = --follow ] || { state_line; return; }
  ! is_orphan || recover_one
  : >>"$DIR/events.ndjson"
  exec 3<"$DIR/events.ndjson" 4<"$DIR/activate.log"
  LOG_PART='' STATE_PART=''
  while :; do
    follow_log
    follow_events
    load_state
    ! is_final || ! hooks_are_over "$quiet" || break
    quiet=$((quiet + 1))
    # Every 5 s a sign of life: it finds a client that is gone (a write fails), and a runner that is.
    [ $((quiet % 50)) -ne 0 ] || { echo alive || exit 1; ! is_orphan || recover_one; }
    pause
  done
  follow_log
  follow_hooks
  echo "state $(state_line)"
  echo end
}

# A writer may be in the middle of a line: what `read` got of it before the end of the file is kept for its rest.
follow_events() {
  local line
  while IFS= read -r line <&3; do
    echo "state $STATE_PART$line"
    STATE_PART=''
  done
  STATE_PART=$STATE_PART$line
}

follow_log() {
  local line
  while IFS= read -r line <&4; do
    echo "log $LOG_PART$line"
    LOG_PART=''
  done
  LOG_PART=$LOG_PART$line
}

list_deploys() {
  local folder
  for folder in "$STATE_ROOT"/deploy/*/; do
    DIR=${folder%/}
    [ ! -s "$DIR/state.json" ] || state_line
  done
}

main "$@"
