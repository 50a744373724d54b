#!/bin/sh
# Nix's post-build-hook: notes the new paths for `slipway watch-store` and returns at once. It never waits for a
# network and never fails, so it can neither slow nor break a build. nix.conf: post-build-hook = /path/to/this/file
spool=${SLIPWAY_QUEUE:-/var/spool/slipway/push}
# Nix 2.8 leaves OUT_PATHS empty; whoever pushes then asks the derivation.
paths=${OUT_PATHS:-$DRV_PATH}
[ -n "$paths" ] && [ -d "$spool" ] || exit 0
draft=$(mktemp "$spool/.new.XXXXXXXX" 2>/dev/null) || exit 0
# shellcheck disable=SC2086  # the paths are separated by spaces and hold none
printf '%s\n' $paths >"$draft" 2>/dev/null &&
  mv "$draft" "$spool/$(date +%s)000-$$" 2>/dev/null || rm -f "$draft" 2>/dev/null
exit 0
