# shellcheck shell=dash
# Hooks on this host: commands of the fleet's configuration that run before anything changes, and after the end.
# DIR/hooks holds one a line, `WHEN SECONDS ONLY NAME COMMAND`: WHEN is before or after, ONLY which ends an after-hook is for
# (always, committed, failed). Each runs in a unit of its own; how it went is a line of DIR/hooks.ndjson.

# before_hooks: false, and HOOK_FAILURE, at the first that fails. Once they began, the after-hooks are due.
before_hooks() {
  [ -s "$DIR/hooks" ] || return 0
  : >"$DIR/hooks.begun"
  each_hook before
}

# after_hooks: all of them, whatever becomes of each; the end of the deploy stands already.
after_hooks() {
  [ -e "$DIR/hooks.begun" ] && [ ! -e "$DIR/hooks.ended" ] || return 0
  each_hook after
  : >"$DIR/hooks.ended"
}

# each_hook before|after
each_hook() {
  local number=0 kind seconds only name
  while read -r kind seconds only name _ <&5; do
    number=$((number + 1))
    if [ "$kind" != "$1" ] || ! is_wanted "$only"; then continue; fi
    log "hook $name ($1) begins"
    run_unit "slipway-hook-$ID-$number" "$seconds" activate.log hook "$DIR" "$number"
    printf '{"name": "%s", "when": "%s", "exit": %s}\n' "$name" "$1" "$UNIT_EXIT" >>"$DIR/hooks.ndjson"
    log "hook $name ($1) ended with $UNIT_EXIT"
    [ "$1" = after ] || [ "$UNIT_EXIT" = 0 ] || { describe_hook "$name" "$seconds"; return 1; }
  done 5<"$DIR/hooks"
}

is_wanted() {
  case $1-$PHASE in
  always-* | committed-COMMITTED | committed-KEPT) return 0 ;;
  failed-COMMITTED | failed-KEPT | committed-*) return 1 ;;
  *) return 0 ;;
  esac
}

# describe_hook NAME SECONDS
describe_hook() {
  HOOK_FAILURE="Hook $1 failed (exit $UNIT_EXIT); its output is in activate.log."
  [ "$UNIT_EXIT" != -1 ] || HOOK_FAILURE="Hook $1 did not end within $2 s."
}

# run_hook DIR NUMBER RESULT: the inside of a slipway-hook unit.
run_hook() {
  local number=0 command='' kind name
  load "$1" || die "No deploy in $1."
  while read -r kind _ _ name command; do
    number=$((number + 1))
    [ "$number" != "$2" ] || break
  done <"$DIR/hooks"
  use_path
  hook_environment "$kind" "$name"
  env "PATH=/run/current-system/sw/bin:$PATH" sh -c "$command" </dev/null
  echo $? >"$3.new"
  mv -f "$3.new" "$3"
}

# hook_environment WHEN NAME: what a hook can know; docs/deploy.md lists it. The COMIN_ names are comin's.
hook_environment() {
  export SLIPWAY_WHEN="$1" SLIPWAY_HOOK="$2" SLIPWAY_HOST="$HOST_NAME" SLIPWAY_DEPLOY="$ID" SLIPWAY_ORIGIN="$ORIGIN"
  export SLIPWAY_OPERATION="$OPERATION" SLIPWAY_RELEASE="$RELEASE" SLIPWAY_OUT_PATH="$TOPLEVEL"
  export SLIPWAY_PREVIOUS_PATH="$PREVIOUS" SLIPWAY_PROFILE="$PROFILE" SLIPWAY_PHASE="$PHASE" SLIPWAY_REASON="$REASON"
  export SLIPWAY_DETAIL="$DETAIL" SLIPWAY_GENERATION="$GENERATION" SLIPWAY_HEALTHY="$HEALTHY"
  export COMIN_GIT_SHA="$RELEASE" COMIN_HOSTNAME="$HOST_NAME" COMIN_GENERATION="$ID" COMIN_ERROR_MSG="$DETAIL"
  case $PHASE in
  COMMITTED | KEPT) COMIN_STATUS='done' COMIN_ERROR_MSG='' ;;
  ROLLED_BACK | ROLLBACK_FAILED | REFUSED) COMIN_STATUS='failed' ;;
  *) COMIN_STATUS='running' ;;
  esac
  export COMIN_STATUS
}

# hooks_are_over [LOOKS]: nobody will run any more of them; systemd is asked at every tenth look only.
hooks_are_over() {
  [ -e "$DIR/hooks.begun" ] && [ ! -e "$DIR/hooks.ended" ] || return 0
  [ $((${1:-0} % 10)) -eq 0 ] &&
    is_gone "slipway-activate-$ID.service" "slipway-deadman-$ID.service" "slipway-recover-$ID.service"
}

follow_hooks() {
  local line
  [ -r "$DIR/hooks.ndjson" ] || return 0
  while IFS= read -r line; do echo "hook $line"; done <"$DIR/hooks.ndjson"
}
