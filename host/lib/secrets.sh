# shellcheck shell=dash
# Whether this host can decrypt what a new toplevel needs, asked before anything changes: agenix goes on after a failed
# decryption, and takes the secrets that worked away. Every plaintext goes to /dev/null.

DECRYPT_SECONDS=30

# check_secrets: false, with one line for each secret, when the activation would fail. Three sources, all optional:
# `slipway/pre-activate` is any check of the toplevel's own; `slipway/secrets` lists age files, one a line;
# agenix' unchanged module writes what it will decrypt into the activation script, or into a unit of its own.
check_secrets() {
  local file failed=0
  if [ -x "$TOPLEVEL/slipway/pre-activate" ]; then
    timeout 60 "$TOPLEVEL/slipway/pre-activate" "$TOPLEVEL" 9>&- || return 1
  fi
  if [ -r "$TOPLEVEL/slipway/secrets" ]; then
    IDENTITIES='/etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_rsa_key'
    while read -r file; do
      [ -z "$file" ] || opens_here age "$file" || failed=1
    done <"$TOPLEVEL/slipway/secrets"
  fi
  check_agenix "$TOPLEVEL/activate" || failed=1
  check_agenix_unit || failed=1
  return $failed
}

# check_agenix_unit: with sysusers or userborn agenix installs its secrets by a service instead.
check_agenix_unit() {
  local line unit=$TOPLEVEL/etc/systemd/system/agenix-install-secrets.service failed=0
  [ -r "$unit" ] || return 0
  while IFS= read -r line; do
    case $line in ExecStart=*) line=${line#ExecStart=} ; check_agenix "${line%% *}" || failed=1 ;; esac
  done <"$unit"
  return $failed
}

# check_agenix SCRIPT: tries every `PROGRAM --decrypt … "FILE"` of the script, with the script's own program and the
# identities of its `for identity in …; do`, as its text says them. The script itself is not run.
check_agenix() {
  local line program file tried=0 failed=0 agenix=''
  [ -r "$1" ] || return 0
  IDENTITIES=''
  while IFS= read -r line; do
    case $line in
    *'for identity in '*'; do'*)
      IDENTITIES=${line#*for identity in }
      IDENTITIES=${IDENTITIES%%; do*}
      ;;
    *' --decrypt '*/nix/store/*)
      program=${line%% --decrypt *} program=${program##*[ (]}
      file=/nix/store/${line##*/nix/store/} file=${file%%[\"\' ]*}
      tried=$((tried + 1))
      opens_here "$program" "$file" || failed=1
      ;;
    *'[agenix] decrypting secrets'*) agenix=yes ;;
    esac
  done <"$1"
  [ -z "$agenix" ] || [ $tried -gt 0 ] || log "$1 decrypts secrets in a way that is not known here; they were not tried"
  return $failed
}

# opens_here PROGRAM FILE: says what is wrong. $IDENTITIES are the paths of the private keys.
opens_here() {
  local key program=$1 file=$2
  command -v "$program" >/dev/null 2>&1 || program=age
  set --
  for key in $IDENTITIES; do
    if [ -r "$key" ] && [ -s "$key" ]; then set -- "$@" -i "$key"; fi
  done
  [ $# -gt 0 ] || { echo "This host has none of the keys that $file needs: $IDENTITIES."; return 1; }
  timeout "$DECRYPT_SECONDS" "$program" --decrypt "$@" "$file" >/dev/null 2>&1 </dev/null 9>&- ||
    { echo "This host cannot decrypt $file."; return 1; }
}
