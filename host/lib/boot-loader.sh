# shellcheck shell=dash
# The boot loader, as far as a boot trial needs it: start one entry once, and go back to the default by itself. That is
# systemd-boot's one-shot entry, which the loader forgets before it starts it. Where nothing can do that we say so.

EFI_VARS=/sys/firmware/efi/efivars
LOADER_GUID=4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
# Bits of LoaderFeatures (Boot Loader Interface): LoaderEntryOneShot is honoured; `preferred` is, since systemd 260.
KNOWS_ONE_SHOT=3
KNOWS_PREFERRED=19
# A kernel that panics, an initrd that gives up, a process 1 that crashes: each must end in a reboot, not in a dark screen.
TRIAL_OPTIONS='panic=10 boot.panic_on_fail systemd.crash_reboot=yes'

# find_protection: sets PROTECTION (oneshot or none) and, for none, WHY in one sentence.
find_protection() {
  local loader
  PROTECTION=none
  loader=$(efi_text LoaderInfo)
  BOOT_FOLDER=$(find_boot_folder)
  if [ -z "$loader" ]; then
    WHY="This host was started by $(guess_loader), which cannot try a system once."
  elif ! efi_is_writable; then
    WHY='The firmware variables cannot be written, so systemd-boot cannot be told to try a system once.'
  elif ! command -v bootctl >/dev/null; then
    WHY='There is no bootctl to tell systemd-boot what to try.'
  elif [ -z "$BOOT_FOLDER" ]; then
    WHY='No loader/entries was found below /boot, /efi or /boot/efi: without them (as with lanzaboote) nothing can be tried.'
  elif ! loader_knows "$KNOWS_ONE_SHOT"; then
    WHY="$loader does not know entries for one boot."
  else
    PROTECTION=oneshot WHY=''
  fi
}

# loader_knows BIT: whether the loader that started this host has announced the feature.
loader_knows() {
  local byte=$((4 + $1 / 8)) mask=$((1 << $1 % 8))
  # shellcheck disable=SC2046 # words wanted: four bytes of attributes, then the number, lowest byte first
  set -- $(efi_bytes LoaderFeatures | od -An -v -tu1)
  [ $# -gt "$byte" ] || return 1
  shift "$byte"
  [ $(($1 & mask)) -ne 0 ]
}

# efi_text NAME: a variable of the loader, UTF-16 behind four bytes of attributes; empty when there is none.
efi_text() {
  efi_bytes "$1" | tail -c +5 | tr -d '\000'
}

# efi_bytes NAME: read at once and from the start: efivarfs answers nothing to who seeks.
efi_bytes() {
  dd "if=$EFI_VARS/$1-$LOADER_GUID" bs=64k 2>/dev/null
}

efi_is_writable() {
  local where options
  while read -r _ where _ options _; do
    [ "$where" = "$EFI_VARS" ] || continue
    case ,$options, in *,ro,*) return 1 ;; *) return 0 ;; esac
  done </proc/mounts
  return 1
}

find_boot_folder() {
  local folder
  for folder in /boot /efi /boot/efi "$(timeout 10 bootctl --print-boot-path 2>/dev/null)"; do
    if [ -n "$folder" ] && [ -d "$folder/loader/entries" ]; then
      echo "$folder"
      return
    fi
  done
}

guess_loader() {
  if [ -e /boot/grub/grub.cfg ]; then echo GRUB
  elif [ -e /boot/extlinux/extlinux.conf ]; then echo extlinux
  elif [ -d /sys/firmware/efi ]; then echo 'an EFI boot loader that is not systemd-boot'
  else echo 'a boot loader that is not known here'; fi
}

# entries_of TOPLEVEL: the loader's entries that start it, one path a line; those of our own trials do not count.
entries_of() {
  local file
  for file in "$BOOT_FOLDER"/loader/entries/*.conf; do
    case ${file##*/} in slipway-trial-*) continue ;; esac
    [ "$(entry_init "$file")" != "$1/init" ] || echo "$file"
  done
}

# entry_init FILE: the `init=` of its options.
entry_init() {
  local key rest word
  while read -r key rest || [ -n "$key" ]; do
    [ "$key" = options ] || continue
    for word in $rest; do
      case $word in init=*) echo "${word#init=}" && return ;; esac
    done
  done <"$1"
}

# is_boot_default TOPLEVEL: what starts when nobody asks for anything else. A word that fits several entries leaves the
# choice to the loader, and is no proof.
is_boot_default() {
  local wanted file name found='' init=''
  wanted=$(efi_text LoaderEntryDefault)
  [ -n "$wanted" ] || wanted=$(preferred_entry)
  [ -n "$wanted" ] || wanted=$(loader_setting default)
  [ -n "$wanted" ] || return 1
  for file in "$BOOT_FOLDER"/loader/entries/*.conf; do
    name=$(entry_name "$file")
    # shellcheck disable=SC2254 # a pattern is meant
    case $name in ${wanted%.conf}) ;; *) continue ;; esac
    init=$(entry_init "$file")
    [ -z "$found" ] || [ "$found" = "$init" ] || return 1
    found=$init
  done
  [ "$found" = "$1/init" ]
}

# preferred_entry: an installer may write it for a loader that is too old for it, which then goes by `default`.
preferred_entry() {
  local wanted
  loader_knows "$KNOWS_PREFERRED" || return 0
  wanted=$(efi_text LoaderEntryPreferred)
  printf '%s' "${wanted:-$(loader_setting preferred)}"
}

loader_setting() {
  local key value
  [ -r "$BOOT_FOLDER/loader/loader.conf" ] || return 0
  while read -r key value || [ -n "$key" ]; do
    [ "$key" != "$1" ] || { echo "$value" && return; }
  done <"$BOOT_FOLDER/loader/loader.conf"
}

# entry_name FILE: without the counters of boot counting (`name+LEFT-DONE.conf`).
entry_name() {
  local name=${1##*/}
  name=${name%.conf}
  case $name in *+[0-9]*) name=${name%+*} ;; esac
  echo "$name"
}

trial_entry() {
  echo "slipway-trial-$ID.conf"
}

# write_trial_entry FILE: the entry that NixOS wrote, under our name and with options that turn a dead end into a reboot.
write_trial_entry() {
  local key rest
  while read -r key rest || [ -n "$key" ]; do
    case $key in
    title) echo "title On trial by Slipway: $rest" ;;
    options) echo "options $rest $TRIAL_OPTIONS slipway.trial=$ID" ;;
    sort-key) ;;
    *) echo "$key $rest" ;;
    esac
  done <"$1" >"$BOOT_FOLDER/loader/entries/slipway-trial.new" || return 1
  put_entry "$BOOT_FOLDER/loader/entries/slipway-trial.new" "$(trial_entry)"
}

# put_entry FILE NAME: renamed durably; FAT has no journal.
put_entry() {
  sync_path "$1" && mv -f "$1" "${1%/*}/$2" && sync_path "${1%/*}"
}

# arm_once: the next boot, and only that, takes the trial's entry.
arm_once() {
  timeout 30 bootctl set-oneshot "$(trial_entry)" >>"$DIR/activate.log" 2>&1 && is_armed
}

is_armed() {
  [ "$(efi_text LoaderEntryOneShot)" = "$(trial_entry)" ]
}

disarm_once() {
  ! is_armed || timeout 30 bootctl set-oneshot '' >>"$DIR/activate.log" 2>&1
  ! is_armed
}

# bless TOPLEVEL: it was proven, so its entries count no more: that is what systemd-bless-boot does with the one booted.
bless() {
  local file
  find_protection
  [ -n "$BOOT_FOLDER" ] || return 0
  entries_of "$1" | while read -r file; do
    [ "${file##*/}" = "$(entry_name "$file").conf" ] || put_entry "$file" "$(entry_name "$file").conf"
  done
}
