# shellcheck shell=dash
# Profiles other than the system's (deploy-rs' `activate.custom`): a link that leads to a package with a script
# `deploy-rs-activate`. The link is set first, because that script may only look at the link; the way back is the
# generation's number that was there before, and the old script by its path.

SYSTEM_PROFILE=/nix/var/nix/profiles/system

# use_profile: sets PROFILE and KIND from the intent. `profile` is a path, or a name that the user's rules place.
use_profile() {
  PROFILE=$SYSTEM_PROFILE KIND=system
  case $ASKED_PROFILE in
  '') return 0 ;;
  /*) PROFILE=$ASKED_PROFILE ;;
  *) PROFILE=$(first_line "$DIR/profile") PROFILE=${PROFILE:-$(place_profile "$RUN_AS" "$ASKED_PROFILE")} ;;
  esac
  KIND=profile
}

# keep_profile: decides once where the profile is: what decides it may appear during the deploy.
keep_profile() {
  [ "$KIND" = system ] || { printf '%s\n' "$PROFILE" >"$DIR/profile" && sync_path "$DIR/profile"; }
}

# place_profile USER NAME: deploy-rs' rules, but a profile that is there already is the one that is meant.
place_profile() {
  local home
  home=$(home_of "$1")/.local/state/nix/profiles
  if [ "$1" = root ]; then
    [ "$2" != system ] || { echo "$SYSTEM_PROFILE"; return; }
    echo "/nix/var/nix/profiles/per-user/root/$2"
  elif [ -d "/nix/var/nix/profiles/per-user/$1" ] && [ ! -e "$home/$2" ]; then
    echo "/nix/var/nix/profiles/per-user/$1/$2"
  else
    echo "$home/$2"
  fi
}

home_of() {
  getent passwd "$1" | cut -d: -f6
}

# active: what is in force now: the running system, or what the profile leads to.
active() {
  if [ "$KIND" = system ]; then running_system; else target "$PROFILE"; fi
}

# as_user COMMAND…: as the profile's owner, with nothing of root's but PATH.
as_user() {
  if [ "$RUN_AS" = root ]; then "$@"; else
    runuser -u "$RUN_AS" -- env "HOME=$(home_of "$RUN_AS")" "USER=$RUN_AS" "$@"
  fi
}

# switch_profile PATH: the inside of a slipway-switch unit: set the link, then run its script. Exit codes are those of
# switch-to-configuration: 1 the profile, 2 the script.
switch_profile() {
  put_profile "$1" || return 1
  [ -x "$1/deploy-rs-activate" ] || return 0 # nothing was there before, or nothing that activates
  ( cd "$PROFILE" && as_user env "PROFILE=$PROFILE" "$1/deploy-rs-activate" ) || return 2
}

# put_profile PATH: our own path makes a generation (or takes the wanted one); what was there before comes back by number.
put_profile() {
  local before made
  before=$(first_line "$DIR/baseline/generation") made=$(profile_generation)
  if [ "$1" = "$TOPLEVEL" ] && [ "$1" != "$PREVIOUS" ]; then
    as_user mkdir -p "${PROFILE%/*}"
    set_profile
  elif [ "$made" = "$before" ]; then
    return 0
  elif [ "$before" -gt 0 ]; then
    in_profile --switch-generation "$before" || return 1
    [ "$made" = "$TARGET_GENERATION" ] || in_profile --delete-generations "$made"
  else
    as_user rm -f "$PROFILE" "$PROFILE-$made-link"
  fi
}
