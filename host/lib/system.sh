# shellcheck shell=dash
# Facts about this host, read afresh each time, never remembered: what runs, what is set, what is broken.

# use_path: our tools come from the system that worked before the trial, wherever the trial leads.
use_path() {
  local system=/run/current-system
  [ "$KIND" = profile ] || system=${PREVIOUS:-$system}
  PATH=$system/sw/bin:/run/wrappers/bin:/nix/var/nix/profiles/default/bin
  PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  HOME=${HOME:-/root}
  export PATH HOME
}

# target LINK: where it leads, empty when it leads nowhere.
target() {
  [ ! -e "$1" ] || readlink -f "$1"
}

running_system() {
  target /run/current-system
}

# profile_generation: number of the current generation, 0 when there is none.
profile_generation() {
  local link
  link=$(readlink "$PROFILE" 2>/dev/null) || link=''
  link=${link##*/} link=${link#"${PROFILE##*/}-"}
  number "${link%-link}" 0
}

boot_id() {
  cat /proc/sys/kernel/random/boot_id
}

# troubled_units: `failed UNIT` or `restarting UNIT` a line; our own do not count. One question to systemd.
troubled_units() {
  systemctl list-units --all --state=failed,auto-restart --plain --no-legend --no-pager 2>/dev/null |
    while read -r unit _ active _; do
      case $unit in slipway-*-??????????????????????????*) continue ;; esac
      if [ "$active" = failed ]; then echo "failed $unit"; else echo "restarting $unit"; fi
    done
}

# is_gone UNIT…: systemd itself says that none of them runs or starts. No answer (it reloads, or the machine is busy) is
# no death: who takes a live runner for dead ends it.
is_gone() {
  local unit
  for unit in "$@"; do
    case $(systemctl show --property=ActiveState --value "$unit" 2>/dev/null) in
    inactive | failed) ;;
    *) return 1 ;;
    esac
  done
}

# first_line FILE
first_line() {
  local content=''
  [ ! -r "$1" ] || IFS= read -r content <"$1" || :
  printf '%s' "$content"
}

# runs_here SYSTEM: whether a toplevel for SYSTEM (x86_64-linux) fits this machine.
runs_here() {
  local machine
  machine=$(uname -m)
  case ${1%%-*} in
  '' | "$machine") return 0 ;;
  i686) [ "$machine" = x86_64 ] ;;
  arm*) case $machine in arm* | aarch64) ;; *) return 1 ;; esac ;;
  *) return 1 ;;
  esac
}

# reboot_parts NEW: comma-separated, the parts that only a boot can change and that differ from what was booted.
reboot_parts() {
  local part booted parts=''
  booted=$(target /run/booted-system)
  [ -n "$booted" ] || return 0
  for part in kernel initrd kernel-modules kernel-params; do
    same_part "$(target "$booted/$part")" "$(target "$1/$part")" || parts=$parts${parts:+,}$part
  done
  printf '%s' "$parts"
}

needs_reboot() {
  [ -n "$(reboot_parts "$1")" ]
}

# live_forbidden NEW: why the running system cannot be switched to it, as NixOS itself sees it; empty when it can.
live_forbidden() {
  local said running=/run/current-system
  if [ "$(first_line "$running/init-interface-version")" != "$(first_line "$1/init-interface-version")" ]; then
    printf 'the init interface differs'
  elif [ -e "$1/switch-inhibitors" ] || [ -e "$running/switch-inhibitors" ]; then
    cmp -s "$running/switch-inhibitors" "$1/switch-inhibitors" ||
      said=$(timeout 30 "$1/bin/switch-to-configuration" check 2>&1 </dev/null) || plain "$said"
  fi
}

# same_part A B: the same store path, or the same content where a toplevel holds the part itself.
same_part() {
  [ "$1" != "$2" ] || return 0
  if [ -f "$1" ] && [ -f "$2" ]; then
    [ "$(sha256sum <"$1")" = "$(sha256sum <"$2")" ]
  else
    [ -d "$1/lib/modules" ] && [ -d "$2/lib/modules" ] && [ "${1##*/}" = kernel-modules ] &&
      [ "$(names_in "$1/lib/modules")" = "$(names_in "$2/lib/modules")" ]
  fi
}

# switch_is_locked: nixos-rebuild (or anyone) is inside switch-to-configuration right now.
switch_is_locked() {
  [ -e "$SWITCH_LOCK" ] && ! flock -n "$SWITCH_LOCK" true
}

# print_facts [TOPLEVEL [PROFILE USER]]: `key=value` lines for a driver's preflight.
print_facts() {
  echo "machine=$(uname -m)"
  echo "hostname=$(uname -n)"
  echo "systemd=$([ -d /run/systemd/system ] && echo yes || echo no)"
  echo "bootId=$(boot_id)"
  echo "current=$(running_system)"
  echo "booted=$(target /run/booted-system)"
  echo "profile=$(target "$PROFILE")"
  echo "generation=$(profile_generation)"
  echo "storeFreeKb=$(free_kb /nix/store)"
  echo "bootFreeKb=$(free_kb /boot)"
  find_protection
  echo "bootProtection=$PROTECTION"
  echo "noBootProtection=$WHY"
  mkdir -p "$RUN_ROOT"
  if flock -n "$RUN_ROOT/lock" true; then echo "lock="; else echo "lock=$(lock_holder)"; fi
  [ -n "${1:-}" ] || return 0
  print_toplevel_facts "$@"
}

# print_toplevel_facts TOPLEVEL [PROFILE USER]
print_toplevel_facts() {
  local valid=no
  ! nix-store --check-validity "$1" 2>/dev/null || valid=yes
  echo "valid=$valid"
  echo "quarantined=$(quarantine_reason "$1")"
  if [ -z "${2:-}" ]; then
    [ $valid = yes ] || return 0
    echo "rebootFor=$(reboot_parts "$1")"
    echo "liveForbidden=$(live_forbidden "$1")"
    return
  fi
  ASKED_PROFILE=$2 RUN_AS=${3:-root}
  use_profile
  echo "profile=$(target "$PROFILE")"
  echo "generation=$(profile_generation)"
  echo "userKnown=$(id -u "$RUN_AS" >/dev/null 2>&1 && echo yes || echo no)"
}

# free_kb FOLDER: 0 when there is no such folder.
free_kb() {
  # shellcheck disable=SC2046 # words wanted: the fourth column of the last line
  set -- $(df -kP "$1" 2>/dev/null | tail -n 1)
  echo "${4:-0}"
}

# print_generations: tab-separated, oldest first:
# number, date, NixOS version, kernel, revision, specialisations, current, booted, toplevel.
print_generations() {
  local booted current link n
  booted=$(target /run/booted-system)
  current=$(profile_generation)
  for link in "$PROFILE"-*-link; do
    [ -e "$link" ] || continue
    n=${link#"$PROFILE-"} n=${n%-link}
    printf '%s\t%s\t' "$n" "$(date -d "@$(stat -c %Y "$link")" '+%Y-%m-%d %H:%M:%S')"
    printf '%s\t' "$(first_line "$link/nixos-version")"
    printf '%s\t%s\t' "$(names_in "$link/kernel-modules/lib/modules")" \
      "$(timeout 5 "$link/sw/bin/nixos-version" --configuration-revision 2>/dev/null | tr -d '\n')"
    printf '%s\t%s\t' "$(names_in "$link/specialisation")" "$([ "$n" = "$current" ] && echo yes || echo no)"
    printf '%s\t%s\n' "$([ "$(target "$link")" = "$booted" ] && echo yes || echo no)" "$(target "$link")"
  done | sort -n
}

# names_in FOLDER: comma-separated.
names_in() {
  local names='' entry
  for entry in "$1"/*; do
    [ ! -e "$entry" ] || names=$names${names:+,}${entry##*/}
  done
  printf '%s' "$names"
}
