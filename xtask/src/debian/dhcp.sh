#!/bin/sh
# Called by busybox's udhcpc: sets the address that it has been given, the way out, and who knows names.
case $1 in
deconfig)
	ip addr flush dev "$interface"
	ip link set "$interface" up
	;;
bound | renew)
	ip addr flush dev "$interface"
	ip addr add "$ip/$mask" dev "$interface"
	for way in $router; do ip route replace default via "$way" dev "$interface"; done
	: >/etc/resolv.conf
	for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
	echo "$interface: $ip"
	;;
esac
