#!@busybox@ sh
# Makes this toplevel the running system, in NixOS' order: secrets (agenix' steps), /etc, /run/current-system.
# Like NixOS' script it goes on after a failing step and ends with 1.
PATH=@out@/sw/bin:/usr/bin:/usr/sbin:/bin:/sbin
export PATH
status=0
failed() {
  echo "Activation script snippet '$1' failed" >&2
  status=1
}

# agenixNewGeneration, agenixInstall, agenixChown: a RAM file system, one folder a generation, one generation kept.
install_secrets() {
  ok=0
  last=$(basename "$(readlink /run/agenix)" 2>/dev/null)
  generation=$((${last:-0} + 1))
  echo "[agenix] creating new generation in /run/agenix.d/$generation"
  mkdir -p /run/agenix.d
  chmod 0751 /run/agenix.d
  grep -q ' /run/agenix.d ramfs' /proc/mounts || mount -t ramfs none /run/agenix.d -o nodev,nosuid,mode=0751
  mkdir -p "/run/agenix.d/$generation"
  chmod 0751 "/run/agenix.d/$generation"
  keys=
  for identity in @identities@; do
    if [ -r "$identity" ] && [ -s "$identity" ]; then keys="$keys -i $identity"; fi
  done
  echo '[agenix] decrypting secrets...'
  @installSecrets@
  echo "[agenix] symlinking new secrets to /run/agenix (generation $generation)..."
  ln -sfn "/run/agenix.d/$generation" /run/agenix
  [ "$generation" -le 1 ] || rm -rf "/run/agenix.d/$((generation - 1))"
  return $ok
}

# finish_secret TARGET PATH MODE OWNER:GROUP: what age has written to TARGET.tmp becomes the secret.
finish_secret() {
  chmod "$3" "$1.tmp" && chown "$4" "$1.tmp" && mv -f "$1.tmp" "$1" || return 1
  [ "$2" = "/run/agenix/${1##*/}" ] || { mkdir -p "$(dirname "$2")" && ln -sfn "/run/agenix/${1##*/}" "$2"; }
}

# setup-etc: /etc/static is the toplevel's etc; each of its files gets a link; links into the old one that now lead
# nowhere go away.
link_etc() {
  ln -sfn @out@/etc /etc/static
  (cd /etc/static/ && find . \( -type f -o -type l \) -print | sed 's|^\./||') | while read -r entry; do
    mkdir -p "/etc/$(dirname "$entry")"
    [ "$(readlink "/etc/$entry")" = "/etc/static/$entry" ] || ln -sfn "/etc/static/$entry" "/etc/$entry.tmp"
    [ ! -L "/etc/$entry.tmp" ] || mv -Tf "/etc/$entry.tmp" "/etc/$entry"
  done
  find /etc -type l -print | while read -r link; do
    case $(readlink "$link") in
      /etc/static/*) [ -e "$link" ] || rm -f "$link" ;;
    esac
  done
}

install_secrets || failed agenixInstall
case @break@ in
  activation) failed homelab ;;
  hang) sleep 86400 ;;
esac
link_etc || failed etc
hostname "$(cat @out@/etc/hostname)" || failed hostname
ln -sfn @out@ /run/current-system || failed currentSystem
exit $status
