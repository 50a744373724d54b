# shellcheck shell=dash
# State of one deploy: intent.json (read), state.json (written by whoever holds the lock), the lock, the clock.
# Both JSON files are flat, one key a line, no escapes: src/api/deploy-state.ts is their contract.

STATE_ROOT=/var/lib/slipway
RUN_ROOT=/run/slipway
GC_ROOTS=/nix/var/nix/gcroots/slipway
SWITCH_LOCK=/run/nixos/switch-to-configuration.lock

# Centiseconds of a clock that nobody can set back; no process is started for it.
now() {
  read -r NOW _ </proc/uptime
  NOW=${NOW%.*}${NOW#*.}
}

pause() {
  sleep 0.1 2>/dev/null || sleep 1
}

log() {
  printf 'slipway: %s\n' "$*" >>"$DIR/activate.log"
}

# sync_path FILE|FOLDER…: durable before we go on, when it returns true. Old busybox has only the sync of everything,
# which tells of no failure: it is for where the sync of one path does not even work on `/`.
sync_path() {
  sync "$@" 2>/dev/null || { ! sync / 2>/dev/null && sync; }
}

# json_fields FILE HANDLER: calls HANDLER KEY VALUE for each line `"key": value`.
json_fields() {
  local line value
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in *'": '*) ;; *) continue ;; esac
    value=${line#*\": } value=${value%,} value=${value#\"}
    line=${line#*\"}
    "$2" "${line%%\"*}" "${value%\"}"
  done <"$1"
}

# load DIR: the intent and, when there is one, the state. Fails when the folder holds no usable intent.
load() {
  DIR=${1%/}
  ID=${DIR##*/}
  ORIGIN='' TOPLEVEL='' TOKEN_HASH='' TARGET_GENERATION=0 HOST_NAME='' RELEASE='' HOOK_TIMEOUT=0
  OPERATION=trial AUTO_ROLLBACK=yes ASKED_PROFILE='' RUN_AS=root
  LOCK_TIMEOUT=120 ACTIVATION_TIMEOUT=240 HEALTH_TIMEOUT=120 HEALTH_STABLE=5
  CONFIRM_TIMEOUT=30 COMMIT_TIMEOUT=120 ROLLBACK_TIMEOUT=240 BOOT_TIMEOUT=600
  [ -r "$DIR/intent.json" ] || return 1
  json_fields "$DIR/intent.json" intent_field
  [ -n "$TOPLEVEL" ] || return 1
  use_profile
  load_state
}

load_state() {
  PHASE='' SINCE=0 PREVIOUS='' REASON='' DETAIL='' ACTIVATION_EXIT=-1 GENERATION=0 HEALTHY=unknown REBOOT=false
  [ ! -s "$DIR/state.json" ] || json_fields "$DIR/state.json" state_field
}

intent_field() {
  case $1 in
  toplevel) TOPLEVEL=$2 ;;
  origin) ORIGIN=$2 ;;
  host) HOST_NAME=$2 ;;
  release) RELEASE=$2 ;;
  hookTimeout) HOOK_TIMEOUT=$(number "$2" 0) ;;
  tokenHash) TOKEN_HASH=$2 ;;
  generation) TARGET_GENERATION=$(number "$2" 0) ;;
  operation) OPERATION=$2 ;;
  autoRollback) AUTO_ROLLBACK=$2 ;;
  profile) ASKED_PROFILE=$2 ;;
  user) RUN_AS=$2 ;;
  lockTimeout) LOCK_TIMEOUT=$(number "$2" 120) ;;
  activationTimeout) ACTIVATION_TIMEOUT=$(number "$2" 240) ;;
  healthTimeout) HEALTH_TIMEOUT=$(number "$2" 120) ;;
  healthStable) HEALTH_STABLE=$(number "$2" 5) ;;
  confirmTimeout) CONFIRM_TIMEOUT=$(number "$2" 30) ;;
  commitTimeout) COMMIT_TIMEOUT=$(number "$2" 120) ;;
  rollbackTimeout) ROLLBACK_TIMEOUT=$(number "$2" 240) ;;
  bootTimeout) BOOT_TIMEOUT=$(number "$2" 600) ;;
  esac
}

state_field() {
  case $1 in
  phase) PHASE=$2 ;;
  since) SINCE=$2 ;;
  previous) PREVIOUS=$2 ;;
  reason) REASON=$2 ;;
  detail) DETAIL=$2 ;;
  activationExit) ACTIVATION_EXIT=$2 ;;
  generation) GENERATION=$2 ;;
  healthy) HEALTHY=$2 ;;
  rebootRequired) REBOOT=$2 ;;
  esac
}

# number TEXT DEFAULT
number() {
  case $1 in
  '' | *[!0-9]*) echo "$2" ;;
  *) echo "$1" ;;
  esac
}

# plain TEXT: one line of printable ASCII without quotes or backslashes, so that JSON needs no escapes.
plain() {
  set -- "$(printf '%s' "$1" | tr '"\\\n\t' "'/  " | tr -cd '\040-\176' | cut -c 1-500)"
  printf '%s' "${1% }"
}

is_final() {
  case $PHASE in
  COMMITTED | KEPT | ROLLED_BACK | ROLLBACK_FAILED | REFUSED) return 0 ;;
  *) return 1 ;;
  esac
}

# set_phase PHASE [REASON [DETAIL]]: durable when it returns true. Only the holder of the lock calls it
# (and `start`, before there is a runner). On a full disk the ballast makes room; a state that cannot be written
# leaves the one before, from which `resolve` goes on.
set_phase() {
  PHASE=$1
  [ $# -lt 2 ] || REASON=$2
  [ $# -lt 3 ] || DETAIL=$(plain "$3")
  SINCE=$(date +%s)
  write_state || { rm -f "$DIR/.ballast" && write_state; } || return 1
  state_line >>"$DIR/events.ndjson"
  log "$PHASE${REASON:+ ($REASON)}${DETAIL:+ $DETAIL}"
}

write_state() {
  state_json >"$DIR/.state.new" && sync_path "$DIR/.state.new" &&
    mv -f "$DIR/.state.new" "$DIR/state.json" && sync_path "$DIR"
}

# keep_ballast: room for the states to come, taken while there is some.
keep_ballast() {
  head -c 131072 /dev/zero >"$DIR/.ballast" && sync_path "$DIR/.ballast"
}

# state_json: the one place that knows the fields of state.json.
state_json() {
  printf '{\n  "version": 1,\n  "id": "%s",\n  "phase": "%s",\n  "since": %s,\n' "$ID" "$PHASE" "$SINCE" &&
    printf '  "toplevel": "%s",\n  "previous": "%s",\n' "$TOPLEVEL" "$PREVIOUS" &&
    printf '  "reason": "%s",\n  "detail": "%s",\n' "$REASON" "$DETAIL" &&
    printf '  "activationExit": %s,\n  "generation": %s,\n' "$ACTIVATION_EXIT" "$GENERATION" &&
    printf '  "healthy": "%s",\n  "rebootRequired": %s\n}\n' "$HEALTHY" "$REBOOT"
}

# state_line: state.json as one line, the unit of events.ndjson and of `status`.
state_line() {
  tr -d '\n' <"$DIR/state.json"
  echo
}

# try_lock: the one writer. A kernel lock on file descriptor 9: it goes when its holder dies, however it dies.
try_lock() {
  mkdir -p "$RUN_ROOT"
  exec 9>>"$RUN_ROOT/lock"
  flock -n 9 || return 1
  printf '%s\n' "$ID" >"$RUN_ROOT/holder"
}

# await_lock SECONDS: false when time is up or the deploy was cancelled meanwhile.
await_lock() {
  local lock_deadline
  now
  lock_deadline=$((NOW + $1 * 100))
  until try_lock; do
    now
    if [ "$NOW" -ge "$lock_deadline" ] || [ -e "$DIR/reject" ]; then return 1; fi
    pause
  done
}

lock_holder() {
  local holder=''
  [ ! -r "$RUN_ROOT/holder" ] || read -r holder <"$RUN_ROOT/holder"
  printf '%s' "$holder"
}
