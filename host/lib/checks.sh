# shellcheck shell=dash
# Health: the lines of DIR/checks (`unit NAME`, `tcp HOST PORT`, `http STATUS URL`, `command LINE`), judged against
# the baseline that was taken just before the activation, and units that failed since.

PROBE_SECONDS=5
# A unit that newly failed and stays so this long (centiseconds) will not come back by waiting.
FAILED_PATIENCE=200

# probe KIND REST: one look at one check.
probe() {
  case $1 in
  unit) systemctl is-active --quiet "$2" ;;
  tcp) probe_tcp "${2%% *}" "${2#* }" ;;
  http) probe_http "${2%% *}" "${2#* }" ;;
  command)
    # The one check that speaks of the new system with its own tools.
    PATH=/run/current-system/sw/bin:$PATH timeout "$((PROBE_SECONDS * 2))" sh -c "$2" >/dev/null 2>&1 </dev/null
    ;;
  *) return 1 ;;
  esac
}

probe_tcp() {
  if command -v bash >/dev/null; then
    # shellcheck disable=SC2016 # bash expands it
    timeout "$PROBE_SECONDS" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null
  else
    nc -z -w "$PROBE_SECONDS" "$1" "$2" >/dev/null 2>&1
  fi
}

probe_http() {
  if command -v curl >/dev/null; then
    [ "$(curl --silent --output /dev/null --max-time "$PROBE_SECONDS" --write-out '%{http_code}' "$2")" = "$1" ]
  else
    case $(timeout "$PROBE_SECONDS" wget -q -S -O /dev/null "$2" 2>&1) in *"HTTP/"*" $1"*) ;; *) return 1 ;; esac
  fi
}

# failing_checks: the lines that do not hold now, sorted; all are asked at once.
failing_checks() {
  [ -s "$DIR/checks" ] || return 0
  {
    while read -r kind rest; do
      [ -n "$kind" ] || continue
      { probe "$kind" "$rest" || printf '%s %s\n' "$kind" "$rest"; } 9>&- </dev/null &
    done <"$DIR/checks"
    wait
  } | sort -u
}

# take_baseline: what was broken before us, and what the world looked like. Durable before anything is activated.
take_baseline() {
  mkdir -p "$DIR/baseline"
  troubled_units | sed 's/^[a-z]* //' | sort -u >"$DIR/baseline/troubled-units"
  failing_checks >"$DIR/baseline/failing"
  while read -r kind rest; do
    is_new_check "$kind" "$rest" || printf '%s %s\n' "$kind" "$rest"
  done <"$DIR/baseline/failing" >"$DIR/baseline/excused"
  target "$PROFILE" >"$DIR/baseline/profile"
  profile_generation >"$DIR/baseline/generation"
  boot_id >"$DIR/baseline/boot-id"
  sync_path "$DIR"/baseline/* "$DIR/baseline"
}

# is_new_check KIND REST: a check that comes with this deploy had no chance to hold before, so it is not excused:
# a unit that did not exist, or a line that the last committed deploy did not have.
is_new_check() {
  local kind rest
  if [ "$1" = unit ] && [ "$(systemctl show --property=LoadState --value "$2")" = not-found ]; then return 0; fi
  [ -e "$STATE_ROOT/checks.committed" ] || return 1
  while read -r kind rest; do
    [ "$kind $rest" != "$1 $2" ] || return 1
  done <"$STATE_ROOT/checks.committed"
}

# look excused|failing: sets FAILED_UNITS (newly failed), BROKEN (checks that count and do not hold, and units that
# keep restarting) and EXCUSED (checks that do not hold but need not). The new system is excused for old failures of
# old checks only; the old system, after a rollback, for all that failed on it before.
look() {
  local troubled
  failing_checks >"$DIR/.failing"
  troubled=$(troubled_units)
  FAILED_UNITS='' BROKEN='' EXCUSED=''
  [ -n "$troubled" ] || [ -s "$DIR/.failing" ] || return 0
  printf '%s\n' "$troubled" | sed -n 's/^failed //p' | sort -u >"$DIR/.failed-units"
  printf '%s\n' "$troubled" | sed -n 's/^restarting //p' | sort -u >"$DIR/.restarting-units"
  FAILED_UNITS=$(comm -23 "$DIR/.failed-units" "$DIR/baseline/troubled-units")
  BROKEN=$(
    comm -23 "$DIR/.failing" "$DIR/baseline/$1"
    comm -23 "$DIR/.restarting-units" "$DIR/baseline/troubled-units"
  )
  EXCUSED=$(comm -12 "$DIR/.failing" "$DIR/baseline/$1")
}

# await_health: true when all that counts held without a break for HEALTH_STABLE seconds; false when
# HEALTH_TIMEOUT is over, a unit failed for good, or a driver rejected the trial (then DIR/reject exists).
await_health() {
  local health_deadline good_since='' failed_since=''
  now
  health_deadline=$((NOW + HEALTH_TIMEOUT * 100))
  while [ ! -e "$DIR/reject" ]; do
    look excused
    now
    if [ -z "$FAILED_UNITS$BROKEN" ]; then
      good_since=${good_since:-$NOW}
      [ $((NOW - good_since)) -lt $((HEALTH_STABLE * 100)) ] || return 0
    else
      good_since=''
      [ "$NOW" -lt "$health_deadline" ] || return 1
    fi
    if [ -n "$FAILED_UNITS" ]; then
      failed_since=${failed_since:-$NOW}
      [ $((NOW - failed_since)) -lt $FAILED_PATIENCE ] || return 1
    else
      failed_since=''
    fi
    pause
  done
  return 1
}

# describe_health: one sentence about the last look.
describe_health() {
  [ -z "$FAILED_UNITS" ] || printf 'Newly failed: %s. ' "$(joined "$FAILED_UNITS")"
  [ -z "$BROKEN" ] || printf 'Not healthy: %s. ' "$(joined "$BROKEN")"
  [ -z "$EXCUSED" ] || printf 'Failed before already: %s.' "$(joined "$EXCUSED")"
}

joined() {
  printf '%s' "$1" | tr '\n' ';' | cut -c 1-300
}

# judge_health excused|failing: HEALTHY for the system that runs now, without waiting.
judge_health() {
  look "$1"
  HEALTHY=yes
  [ -z "$FAILED_UNITS$BROKEN$EXCUSED" ] || HEALTHY=no
}
