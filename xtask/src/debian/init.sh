#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /root /usr /sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root PS1='# '
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs tmpfs /tmp
# Drivers for what there is on the PCI bus, and on virtio's, which comes from there.
for device in /sys/bus/pci/devices/*; do
	[ -e $device/vendor ] || continue
	case $(cat $device/vendor $device/class | tr '\n' ' ') in
	0x1af4*) modprobe -q virtio_pci ;;
	*0x010802*) modprobe -q nvme ;;
	0x8086*0x020000*) modprobe -q e1000e ;;
	esac
done
for device in /sys/bus/virtio/devices/*; do
	[ -e $device/device ] || continue
	case $(cat $device/device) in
	0x0001) modprobe -q virtio_net ;;
	0x0002) modprobe -q virtio_blk ;;
	0x0003) modprobe -q virtio_console ;;
	0x0004) modprobe -q virtio_rng ;;
	0x0005) modprobe -q virtio_balloon ;;
	esac
done
for word in $(cat /proc/cmdline); do
	case $word in
	root=/dev/*) root=${word#root=} ;;
	init=*) init=${word#init=} ;;
	ro) mode=ro ;;
	esac
done
if [ -n "$root" ]; then
	modprobe -q -a crc32c_generic ext4
	# The disk may take a moment to appear.
	i=0
	while [ ! -b $root ] && [ $i -lt 50 ]; do usleep 100000; i=$((i + 1)); done
	if mkdir -p /mnt && mount -o ${mode:-rw} $root /mnt; then
		umount /tmp
		mount -o move /dev /mnt/dev && mount -o move /proc /mnt/proc && mount -o move /sys /mnt/sys
		exec switch_root /mnt ${init:-/sbin/init}
	fi
	echo "There is no file system on $root: this is the initramfs."
fi
uname -srm
grep -E '^(cpu|MMU|platform)' /proc/cpuinfo
echo 'This is a shell; it has busybox. `poweroff -f` or its end powers the machine off.'
cd
# The console itself cannot be a controlling terminal; the device behind it can, and job control needs one.
setsid cttyhack sh
poweroff -f
