#!/bin/bash
# Boots the hypervisor in QEMU with guests on it. Installs, builds and downloads what that needs. See --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Help must not depend on anything that may have to be installed first.
previous=
for argument in "$@"; do
	case $previous in
	--machine | --smp | --memory | --kernel | --initrd | --append | --manifest | --guest-memory | --vcpus | --timeout | --disk)
		previous=
		continue
		;;
	esac
	previous=$argument
	case $argument in
	--) break ;;
	-h | --help) exec cat "$root/xtask/src/run-help.txt" ;;
	esac
done

. "$root/scripts/setup.sh"
setup

# Paths on the command line are relative to where the caller is, so that is where cargo runs, too.
exec cargo run --quiet --manifest-path "$root/Cargo.toml" --package xtask -- run "$@"
