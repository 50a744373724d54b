#!/bin/sh
# Makes a fresh Debian machine ready for `make demo` and `make test`; does nothing, quickly, when it is already.
# Needs git, make, Node 20 or newer and npm. As root it installs Debian's packages; otherwise it says which.
# Usage: setup.sh [demo | boot]. With `demo` it leaves out what only the tests need; `boot` adds what `make test-boot` does.
set -eu
purpose=${1:-test}
cd "$(dirname "$(dirname "$(readlink -f "$0")")")"
PATH=$PATH:/usr/sbin:/sbin

say() { echo "setup: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

check_node() {
  for tool in git make node npm; do
    have "$tool" && continue
    say "$tool is missing. Install git, make, Node 20 or newer and npm first, for example: apt-get install git make nodejs npm"
    exit 26
  done
  node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' && return 0
  say "Node $(node --version) is too old to start with: 20 or newer is needed (the pinned Node 24 then comes by npm)."
  exit 26
}

# node_modules is right when it was made from this very lock file. `npm install --no-save` takes its versions and
# checksums from there and leaves it alone; `npm ci` would refuse it, because a lock file written where a registry
# lacks optional packages of other platforms (oxlint and oxfmt list many) leaves them out.
install_npm_packages() {
  cmp -s package-lock.json node_modules/.slipway-lock && return 0
  say "installing npm packages (and the pinned Node)…"
  npm install --no-save --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json node_modules/.slipway-lock
}

# Each line: a program that must be there, and Debian's package that brings it.
missing_packages() {
  while read -r program package; do
    have "$program" || echo "$package"
  done <<PROGRAMS
nix nix-bin
age age
sshd openssh-server
ssh openssh-client
systemd-nspawn systemd-container
mmdebstrap mmdebstrap
ip iproute2
busybox busybox-static
zstd zstd
xz xz-utils
curl curl
promtool prometheus
nsenter util-linux
ps procps
PROGRAMS
  [ "$purpose" = demo ] || have chromium || echo chromium
  [ "$purpose" = demo ] || have shellcheck || echo shellcheck
  [ "$purpose" = demo ] || have gpg || echo gnupg
  [ "$purpose" != boot ] || missing_boot_packages
  # Debian keeps the server's programs out of PATH.
  [ "$purpose" = demo ] || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || echo postgresql
  # The example fleet builds with busybox alone: it must not need shared libraries.
  if have busybox && have dpkg && ! dpkg -s busybox-static >/dev/null 2>&1; then echo busybox-static; fi
}

missing_boot_packages() {
  have qemu-system-x86_64 || echo qemu-system-x86
  [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || echo ovmf
  [ -e /usr/lib/systemd/boot/efi/systemd-bootx64.efi ] || echo systemd-boot-efi
  have mcopy || echo mtools
  have mkfs.vfat || echo dosfstools
  have mkfs.ext4 || echo e2fsprogs
  have cpio || echo cpio
}

install_debian_packages() {
  missing=$(missing_packages | sort -u | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" -ne 0 ] || ! have apt-get; then
    say "these packages are missing: $missing"
    say "install them as root: apt-get install --no-install-recommends $missing"
    say "without them and without root: make test runs types, lint, format, unit and contract tests; make demo does not run"
    return 0
  fi
  say "installing Debian packages: $missing"
  keep_daemons_off
  log=$(mktemp)
  apt-get -qq update >>"$log" 2>&1 || say "apt-get update failed; trying with the lists that are there"
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $missing >>"$log" 2>&1 || {
    status=$?
    cat "$log" >&2
    say "apt-get could not install them (exit code $status); its output is above and in $log"
    exit 26
  }
  rm -f "$log"
}

# openssh-server and postgresql must not start a daemon on a machine that only wants the programs.
keep_daemons_off() {
  [ ! -e /usr/sbin/policy-rc.d ] || return 0
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  trap 'exit 130' INT TERM
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
}

check_node
install_npm_packages
install_debian_packages
