# Functions that install what building and running needs. Sourced by qemu-run.sh and .ci/run with $root set.
# shellcheck shell=bash

# The oldest QEMU that will do, and the oldest Rust (minor version of 1.x).
QEMU_MAJOR=8
RUST_MINOR=95

say() { printf 'partita: %s\n' "$*" >&2; }

die() {
	say "$@"
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

have_qemu() {
	local version
	have qemu-system-ppc64 || return 1
	version=$(qemu-system-ppc64 --version 2>/dev/null) || return 1
	[[ $version =~ version\ ([0-9]+)\. ]] && ((BASH_REMATCH[1] >= QEMU_MAJOR))
}

# A cargo that works in this tree and is new enough; with an argument, that toolchain of rustup's.
have_cargo() {
	local version
	version=$(cd "$root" && ${1:+env RUSTUP_TOOLCHAIN="$1"} cargo --version 2>/dev/null) || return 1
	[[ $version =~ ^cargo\ 1\.([0-9]+)\. ]] && ((BASH_REMATCH[1] >= RUST_MINOR))
}

as_root() {
	if ((EUID == 0)); then
		"$@"
	else
		sudo -n "$@"
	fi
}

# Runs a command silently; what it said is shown if it fails.
quietly() {
	local log status=0
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null || status=$?
	((status == 0)) || tail -n 20 "$log" >&2
	rm -f "$log"
	return "$status"
}

# rustup without the toolchain of this tree: another one will do if it is new enough, or rustup can get it.
use_rustup() {
	local channel toolchain
	have rustup || return 1
	channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$root/rust-toolchain.toml")
	while read -r toolchain _; do
		if [[ -n $toolchain && $toolchain != nightly* ]] && have_cargo "$toolchain"; then
			say "the Rust toolchain $channel is not installed; using $toolchain"
			export RUSTUP_TOOLCHAIN=$toolchain
			return 0
		fi
	done < <(rustup toolchain list 2>/dev/null)
	say "installing the Rust toolchain $channel"
	quietly rustup toolchain install "$channel" --profile minimal -c rustfmt -c clippy -c rust-src && have_cargo
}

# Debian's packages of a recent Rust. They are not first on the search path if rustup is there too.
use_debian_cargo() {
	local version
	[[ -x /usr/bin/cargo && -x /usr/bin/rustc ]] || return 1
	version=$(/usr/bin/cargo --version 2>/dev/null) || return 1
	[[ $version =~ ^cargo\ 1\.([0-9]+)\. ]] && ((BASH_REMATCH[1] >= RUST_MINOR)) || return 1
	unset RUSTUP_TOOLCHAIN
	export PATH=/usr/bin:$PATH
}

find_cargo() {
	# rustup's folder is on the search path of login shells only.
	if ! have cargo && [[ -x ${CARGO_HOME:-${HOME:-}/.cargo}/bin/cargo ]]; then
		export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
	fi
	have_cargo || use_debian_cargo || use_rustup
}

# Where apt gets Debian itself from: its other suites are there, too.
debian_mirror() {
	# shellcheck disable=SC2016 # the names are apt's own
	apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 ~ /^(bookworm|stable|oldstable)$/ { sub("/$", "", $1); print $1; exit }'
}

# Adds a suite to apt's sources; $1 its name, $2 the address of its archive.
add_suite() {
	[[ -n $2 ]] || die "apt has no source for Debian itself; add one for $1 and run this again"
	say "adding $1 to apt's sources"
	printf 'deb %s %s main\n' "$2" "$1" | as_root tee "/etc/apt/sources.list.d/partita-$1.list" >/dev/null
}

# Bookworm's own QEMU is too old: its backports have a newer one.
add_backports() {
	local codename
	codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
	[[ $codename == bookworm ]] || return 0
	apt_from=bookworm-backports
	apt-cache policy 2>/dev/null | grep -q 'a=[a-z]*-backports,n=bookworm-backports\|n=bookworm-backports' && return 0
	add_suite bookworm-backports "$(debian_mirror)"
}

# A recent Rust for bookworm comes as a security update; not every system has that source.
add_security() {
	local codename version mirror
	codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
	[[ $codename == bookworm ]] || return 0
	version=$(apt-cache policy rustc-web 2>/dev/null | sed -n 's/^ *Candidate: 1\.\([0-9]*\)\..*/\1/p')
	((${version:-0} < RUST_MINOR)) || return 0
	# Security updates have an archive of their own beside the main one.
	mirror=$(debian_mirror)
	add_suite bookworm-security "${mirror:+$mirror-security}"
	quietly as_root apt-get update -q || say "not every package index could be fetched; going on"
}

apt_install() {
	quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

# Makes sure of QEMU, the linker, a C linker driver for the build tools, and cargo. Says nothing if all is there.
setup() {
	local packages=() missing=() qemu='' rust='' apt_from='' by_hand
	if ! have_qemu; then
		qemu=qemu-system-ppc
		missing+=("qemu-system-ppc64, version $QEMU_MAJOR or later")
	fi
	if ! have ld.lld; then
		packages+=(lld)
		missing+=("ld.lld, LLVM's linker")
	fi
	if ! have cc; then
		packages+=(gcc libc6-dev)
		missing+=("cc, a C compiler (it links the build tools)")
	fi
	if ! find_cargo; then
		rust=wanted
		packages+=(rustc-web cargo-web rust-web-src rustfmt-web)
		missing+=("cargo and rustc, version 1.$RUST_MINOR or later")
	fi
	if ((${#missing[@]} == 0)); then
		return 0
	fi
	if [[ ${#packages[@]} -gt 0 && ! -e /etc/ssl/certs/ca-certificates.crt ]]; then
		packages+=(ca-certificates)
	fi

	if ! have apt-get || [[ ! -e /etc/debian_version ]]; then
		say "this is missing, and there is no Debian here to install it from:"
		printf '  %s\n' "${missing[@]}" >&2
		exit 1
	fi
	by_hand="apt-get update && apt-get install ${packages[*]}${qemu:+ -t bookworm-backports $qemu}"
	if ((EUID != 0)) && ! sudo -n true 2>/dev/null; then
		say "this is missing, and installing it needs root:"
		printf '  %s\n' "${missing[@]}" >&2
		say "run as root (on Debian 12, with bookworm-backports among apt's sources): $by_hand"
		exit 1
	fi

	if [[ -n $qemu ]]; then
		add_backports
	fi
	say "installing ${packages[*]}${qemu:+ $qemu}"
	# A source that has nothing to do with this may fail; the installation shows whether it matters.
	quietly as_root apt-get update -q || say "not every package index could be fetched; going on"
	if [[ -n $rust ]]; then
		add_security
	fi
	if ((${#packages[@]} > 0)); then
		apt_install "${packages[@]}" || die "apt-get could not install ${packages[*]} (its message is above)"
	fi
	if [[ -n $qemu ]]; then
		apt_install ${apt_from:+-t "$apt_from"} "$qemu" || die "apt-get could not install $qemu (its message is above)"
		have_qemu || die "the QEMU that apt-get installed is older than $QEMU_MAJOR: $(qemu-system-ppc64 --version | head -n 1)"
	fi
	find_cargo || die "there is still no cargo of version 1.$RUST_MINOR or later: install a newer one with rustup"
}

# An independent disassembler for PowerPC, which tests compare with.
setup_disassembler() {
	setup_for_tests powerpc64le-linux-gnu-objdump binutils-powerpc64le-linux-gnu
}

# What makes and checks the file systems of guests' disks.
setup_file_systems() {
	setup_for_tests mke2fs e2fsprogs
}

# Makes sure of a program that tests need; $1 its name, $2 Debian's package.
setup_for_tests() {
	# /usr/sbin is not on the search path of who is not root.
	if have "$1" || [[ -x /usr/sbin/$1 ]]; then
		return 0
	fi
	have apt-get || die "install $1: tests need it"
	say "installing $2"
	quietly as_root apt-get update -q || say "not every package index could be fetched; going on"
	apt_install "$2" || die "apt-get could not install $2 (its message is above)"
}
