#!/bin/sh
# Install what failshut needs on Debian and Ubuntu: system packages, then a virtual environment with the package in place.
# Safe to run again: what is there is left alone.
#
#   setup.sh VENV        what the drill and the commands need
#   setup.sh VENV test   what the tests need besides
#   setup.sh VENV vm     what the tests on whole machines need besides those
set -eu

venv=${1:-.venv}
purpose=${2:-}
python=${PYTHON:-python3}
# nftables wireguard-tools wireguard-go iproute2 util-linux: the lock and the lab. iptables: the guide's own rules, the drill's
# control. dnsmasq-base udhcpc: a real DHCP server and client in the lab. python3-venv: the virtual environment.
packages="nftables iptables wireguard-tools wireguard-go iproute2 util-linux procps make python3-venv dnsmasq-base udhcpc"
extras=
if [ "$purpose" = test ] || [ "$purpose" = vm ]; then
	# mmdebstrap debian-archive-keyring systemd-container: the Debian machines that the boot tests build, check and boot.
	# shellcheck: reads the script that a boot runs. openssl: a certificate for the exporter. dbus: a session bus for the notices.
	# tcpdump: what arrives at the other end of a cable. openvpn: the other kind of tunnel, at both ends.
	# dpkg-dev debhelper lintian: our own Debian package. podman crun netavark: our own image; uidmap slirp4netns: the same by an ordinary user. openssh-client: how Ansible reaches a fleet's hosts.
	packages="$packages openssh-client mmdebstrap debian-archive-keyring systemd-container shellcheck openssl dbus tcpdump openvpn dpkg-dev debhelper lintian podman crun netavark uidmap slirp4netns"
	extras='[dev,docs]'
fi
if [ "$purpose" = vm ]; then
	# qemu: the machines. seabios, ipxe-qemu: what their mainboard and their cards begin with. e2fsprogs: a file system from a folder.
	packages="$packages qemu-system-x86 seabios ipxe-qemu e2fsprogs"
fi

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
		echo "failshut: these packages are missing and installing them needs root: $missing" >&2
		echo "  help: run this as root, or install them yourself and run it again" >&2
		exit 1
	fi
}

missing=
if command -v dpkg-query >/dev/null; then
	for package in $packages; do
		dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
	done
else
	echo "failshut: not a Debian or Ubuntu machine; install yourself: $packages" >&2
fi
if [ -n "$missing" ]; then
	echo "Installing:$missing"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
	# shellcheck disable=SC2086 # a list of words
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	echo "failshut: $python is older than Python 3.11" >&2
	echo "  help: make PYTHON=/path/to/python3.11 setup" >&2
	exit 1
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "Installing the Python package into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".$extras"
# Where Python is told to write no bytecode, every command would compile all of the program anew.
"$venv/bin/python" -m compileall -q src

# Unpacked and not installed: the package would start a service on this machine.
if [ -n "$extras" ] && [ ! -x "$venv/prometheus/usr/bin/promtool" ] && command -v apt-get >/dev/null; then
	echo "Unpacking Prometheus into $venv"
	rm -rf "$venv/prometheus"
	mkdir "$venv/prometheus"
	(cd "$venv/prometheus" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb)
fi
