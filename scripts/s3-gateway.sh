#!/bin/sh
# Prints the path of Versity's S3 gateway (Apache-2.0), a complete S3 server over files for `make test-s3`.
# Built once from the Go module proxy, pinned by version and by Go's checksum database, into the user's cache.
set -eu
version=v1.8.0
folder=${XDG_CACHE_HOME:-$HOME/.cache}/slipway/versitygw-$version

if [ ! -x "$folder/versitygw" ]; then
  command -v go >/dev/null 2>&1 || {
    echo "make test-s3 builds a real S3 server and needs Go 1.21 or newer (https://go.dev/dl)." >&2
    exit 26
  }
  echo "building versitygw $version (some minutes, once)…" >&2
  mkdir -p "$folder"
  GOTOOLCHAIN=auto GOBIN="$folder/new" go install "github.com/versity/versitygw/cmd/versitygw@$version" >&2
  mv "$folder/new/versitygw" "$folder/versitygw"
fi
echo "$folder/versitygw"
