#!/bin/sh
# Builds what every guest of `make test-boot` shares: Debian's kernel, initrds that work, panic and hang, and the guest's
# root folder (the lab's base system with bootctl). Usage: build.sh BASE DIRECTORY. Needs apt.
set -eu
base=$1 target=$2
here=$(dirname "$(readlink -f "$0")")
work=$target/work
mkdir -p "$work"

# download PACKAGE: unpacked below $work.
download() {
  mkdir -p "$work/deb"
  (cd "$work/deb" && rm -f ./*.deb && apt-get -qq -o APT::Sandbox::User=root download "$1" && dpkg -x ./*.deb "$work")
}
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
download "$kernel"
download systemd-boot
download e2fsck-static

initrd=$work/initrd
mkdir -p "$initrd/bin" "$initrd/modules" "$initrd/proc" "$initrd/sys" "$initrd/dev" "$initrd/root"
cp /bin/busybox "$initrd/bin/busybox"
cp "$work/sbin/e2fsck.static" "$initrd/bin/e2fsck"
install -m 755 "$here/initrd-init" "$initrd/init"
for module in virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk failover net_failover \
  virtio_net efivarfs fat vfat nls_ascii nls_cp437; do
  find "$work/lib/modules" -name "$module.ko" -exec cp {} "$initrd/modules/" \;
done

root=$target/root
cp -a "$base" "$root"
lab=$root/usr/lib/boot-lab
mkdir -p "$lab"
cp "$work"/boot/vmlinuz-* "$lab/vmlinuz"
for kind in a b panics hangs; do
  echo "$kind" >"$initrd/fault"
  (cd "$initrd" && find . | sort | cpio --quiet -o -H newc | gzip -1n >"$lab/initrd-$kind")
done
install -m 755 "$here/guest-init" "$lab/init"
cp "$work/usr/bin/bootctl" "$root/usr/bin/bootctl"
echo boot1 >"$root/etc/hostname"
ssh-keygen -q -t ed25519 -N '' -C boot1 -f "$root/etc/ssh/ssh_host_ed25519_key"
rm -rf "$work"
