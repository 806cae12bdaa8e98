#!/bin/sh
# The first process of a Debian that has no other, and what `poweroff` and `reboot` are there.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux DEBIAN_FRONTEND=noninteractive
end() {
	sync
	# Remounts everything read-only.
	echo u >/proc/sysrq-trigger
	exec busybox "$1" -f
}
case ${0##*/} in
poweroff | reboot) end "${0##*/}" ;;
esac

there() { grep -q " $1 " /proc/mounts 2>/dev/null; }
there /proc || mount -t proc proc /proc
there /sys || mount -t sysfs sysfs /sys
there /dev || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -o remount,rw /
hostname "$(cat /etc/hostname)"
ip link set lo up
for card in /sys/class/net/eth*; do
	[ -e "$card" ] && busybox udhcpc -q -b -t 5 -i "${card##*/}" >/dev/null 2>&1 &
done
[ -x /etc/rc.local ] && /etc/rc.local

echo "Debian $(cat /etc/debian_version) on $(grep ' / ' /proc/mounts | cut -d' ' -f1), Linux $(uname -r)."
if grep -q '^Status: install ok unpacked' /var/lib/dpkg/status; then
	echo 'Packages are unpacked, not configured: `dpkg --configure -a` does that, and after it apt works.'
fi
echo 'The end of this shell, or `poweroff`, powers the machine off.'
cd
# A terminal that can control its processes, which /dev/console cannot.
console=/dev/$(sed 's/.* //' /sys/class/tty/console/active)
setsid -cw bash -l <"$console" >"$console" 2>&1
end poweroff
