#!@busybox@ sh
# Answers HTTP on a port with its version, its host's name and the SHA-256 of its secret: hello PORT SECRET_FILE.
set -eu
web=/run/hello
@busybox@ mkdir -p $web
digest=$(@busybox@ sha256sum <"$2")
printf '{"service":"hello","version":"%s","host":"%s","secret":"%s"}\n' \
  '@version@' "$(@busybox@ hostname)" "${digest%% *}" >$web/index.html
exec @busybox@ httpd -f -p "$1" -h $web
