#!/bin/sh
# Makes ssh.json: age files for SSH recipients, written by the age program (1.1.1) to throw-away keys.
# Needs age, ssh-keygen and python3. Run it only to add cases: the frozen file is what tests rely on.
set -eu
out=$(cd "$(dirname "$0")" && pwd)/ssh.json
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
ssh-keygen -q -t ed25519 -N '' -C 'throw-away vector key' -f ed25519-a
ssh-keygen -q -t ed25519 -N '' -C 'throw-away vector key' -f ed25519-b
for bits in 2048 3072 4096; do ssh-keygen -q -t rsa -b $bits -N '' -C 'throw-away vector key' -f rsa-$bits; done
ssh-keygen -q -t rsa -b 2048 -m PEM -N '' -C 'throw-away vector key' -f rsa-2048-pem
age-keygen -o x25519 2>/dev/null
age-keygen -y x25519 >x25519.pub
mkdir files
seal() { # NAME SIZE ARMOR IDENTITY RECIPIENT...
  name=$1 size=$2 armor=$3 identity=$4
  shift 4
  head -c "$size" /dev/zero | openssl enc -aes-128-ctr -nosalt -K 00000000000000000000000000000000 -iv 00000000000000000000000000000000 >plain
  recipients=
  for key in "$@"; do recipients="$recipients -R $key.pub"; done
  # shellcheck disable=SC2086
  age $armor $recipients -o "files/$name" plain
  printf '%s %s %s %s\n' "$name" "$size" "$identity" "$(sha256sum <plain | cut -d' ' -f1)" >>list
}
for key in ed25519-a ed25519-b rsa-2048 rsa-3072 rsa-4096 rsa-2048-pem; do
  seal "$key" 42 "" $key $key
  seal "$key-armored" 42 -a $key $key
done
seal empty 0 "" ed25519-a ed25519-a
seal chunk-minus-one 65535 "" ed25519-a ed25519-a
seal chunk 65536 "" ed25519-a ed25519-a
seal chunk-plus-one 65537 "" rsa-2048 rsa-2048
for key in ed25519-a ed25519-b rsa-2048 x25519; do seal "mixed-for-$key" 100 "" $key ed25519-a rsa-2048 x25519 ed25519-b; done
many=
i=0
while [ $i -lt 60 ]; do
  ssh-keygen -q -t ed25519 -N '' -C 'throw-away vector key' -f many-$i
  many="$many many-$i"
  i=$((i + 1))
done
# shellcheck disable=SC2086
seal many 100 -a ed25519-b $many ed25519-b
python3 - "$out" <<'PY'
import base64, glob, json, os, sys
keys = {}
for pub in sorted(glob.glob('*.pub')):
    name = pub[:-4]
    if name.startswith('many-'): continue
    keys[name] = {'public': open(pub).read().strip(), 'private': open(name).read()}
vectors = []
for line in open('list'):
    name, size, identity, digest = line.split()
    vectors.append({'name': name, 'size': int(size), 'identity': identity, 'sha256': digest,
                    'file': base64.b64encode(open('files/' + name, 'rb').read()).decode()})
json.dump({'comment': 'Throw-away keys, used nowhere else. Made by make-ssh-vectors.sh with age 1.1.1.',
           'keys': keys, 'vectors': vectors}, open(sys.argv[1], 'w'), indent=1)
open(sys.argv[1], 'a').write('\n')
PY
