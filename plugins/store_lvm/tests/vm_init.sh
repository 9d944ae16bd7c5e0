#!/bin/bash
# The first process of the guest: see vm.sh.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
job=$I2VM_JOB
mount -t proc proc /proc; mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev; mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm
ln -sf /proc/self/fd /dev/fd
mount -t tmpfs run /run; mkdir -p /run/lock/lvm /run/lvm
mount -t tmpfs etclvm /etc/lvm 2>/dev/null
mount -t tmpfs mnt /mnt
cat > /etc/lvm/lvm.conf <<E
devices { obtain_device_list_from_udev = 0  external_device_info_source = "none"  types = [ "ubd", 16 ]  use_devicesfile = 0 }
activation { udev_sync = 0  udev_rules = 0  monitoring = 0  reserved_memory = 0  reserved_stack = 64  use_mlockall = 0 }
global { use_lvmpolld = 0 }
backup { backup = 0  archive = 0 }
E
modules=/usr/lib/uml/modules/$(uname -r)/kernel/drivers/md
for m in dm-mod dm-bufio dm-snapshot dm-bio-prison persistent-data/dm-persistent-data dm-thin-pool; do
  insmod "$modules/$m.ko" || echo "insmod $m failed"
done
(
  . "$job/env"; export DM_DISABLE_UDEV=1 PATH HOME=${HOME:-/root}
  cd "$(cat "$job/cwd")" || exit; exec setsid bash "$job/cmd" </dev/null >"$job/out" 2>&1
)
echo $? > "$job/rc.tmp"; mv "$job/rc.tmp" "$job/rc"
umount -a -t ext4,xfs 2>/dev/null
sync; exec /usr/bin/python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321fedc)'
