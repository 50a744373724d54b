# shellcheck shell=dash
# The quarantine: toplevels that failed here through their own fault; one a line: path, reason, time, deploy.

# quarantine_reason TOPLEVEL: empty when it is not there.
quarantine_reason() {
  local path why
  [ -r "$STATE_ROOT/quarantine" ] || return 0
  while read -r path why _; do
    [ "$path" != "$1" ] || { printf '%s' "$why"; return; }
  done <"$STATE_ROOT/quarantine"
}

# quarantine_set TOPLEVEL [REASON]: without a reason it is taken out. Durable when it returns true; else as it was before.
quarantine_set() {
  local new=$STATE_ROOT/.quarantine.new
  [ $# -gt 1 ] || [ -n "$(quarantine_reason "$1")" ] || return 0
  if quarantine_with "$@" >"$new" && sync_path "$new" && mv -f "$new" "$STATE_ROOT/quarantine"; then
    sync_path "$STATE_ROOT"
  else
    rm -f "$new"
    return 1
  fi
}

# quarantine_with TOPLEVEL [REASON]: the whole new content.
quarantine_with() {
  local path rest
  [ ! -r "$STATE_ROOT/quarantine" ] || while read -r path rest; do
    [ "$path" = "$1" ] || echo "$path $rest" || return 1
  done <"$STATE_ROOT/quarantine"
  [ $# -lt 2 ] || echo "$1 $2 $(date -u +%Y-%m-%dT%H:%M:%SZ) ${ID:-by-hand}"
}

# condemn REASON: quarantines the toplevel when it failed through its own fault. A host that cannot write that down
# says so, because it would try the same again.
condemn() {
  is_own_fault "$1" || return 0
  quarantine_set "$TOPLEVEL" "$1" || note_in_detail "It could not be quarantined: $STATE_ROOT/quarantine cannot be written."
}

# absolve: a toplevel that was committed is no longer to be refused.
absolve() {
  quarantine_set "$TOPLEVEL" || note_in_detail "It stays quarantined: $STATE_ROOT/quarantine cannot be written."
}

# note_in_detail SENTENCE: what was said before gives way when there is no room for both.
note_in_detail() {
  DETAIL=$(printf '%s' "$DETAIL" | cut -c 1-380)
  DETAIL="${DETAIL:+$DETAIL }$1"
}

# is_own_fault REASON: whether trying the same toplevel again is pointless. A client that vanished, a full boot
# partition or an operator's no say nothing about the toplevel; an agent that finds itself cut off does.
is_own_fault() {
  case $1 in
  activation-failed | activation-timeout | health-failed | rebooted-in-trial | fell-back | boot-timeout | probes-failed) return 0 ;;
  confirm-timeout) [ "$ORIGIN" = pull ] ;;
  *) return 1 ;;
  esac
}
