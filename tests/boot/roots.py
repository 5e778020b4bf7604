"""Debian trees to boot: built once by mmdebstrap, kept in the user's cache, never changed afterwards."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import sources

REPOSITORY = Path(__file__).parents[2]
# Where the machine finds failshut: its dependencies are in the tree, its source comes by a bind mount.
LIBRARY, SOURCE = "/opt/failshut/lib", "/opt/failshut/src"

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "kmod", "procps", "python3", "python3-minimal"),
    *("nftables", "iproute2", "wireguard-tools", "wireguard-go"),
    *("iptables", "ifupdown", "isc-dhcp-client"),
    # Of the prover, which is C++; a Debian with apt has it.
    "libstdc++6",
    # Of our own package, which is installed without a network.
    *sources.depended_on(),
)
# The guide's own part, for the control. ufw and firewalld can't be installed beside it.
_GUIDES = ("iptables-persistent", "netfilter-persistent")

WRAPPER = f"""\
#!/bin/sh
PYTHONPATH={SOURCE}:{LIBRARY} exec python3 -m failshut "$@"
"""

# Run by mmdebstrap with the tree in $1. The machine's id is fixed: at a "first boot" systemd would enable every unit there is.
_FINISH = """
set -eu
echo 6661696c736875740000000000000000 > "$1/etc/machine-id"
mkdir -p "$1/var/log/journal" "$1/etc/failshut"
units="netfilter-persistent networking NetworkManager ufw firewalld docker docker.socket containerd ssh openvpn"
timers="podman-auto-update.timer apt-daily.timer apt-daily-upgrade.timer"
for unit in $units $timers podman podman.socket podman-restart podman-auto-update.service; do
	if [ -e "$1/lib/systemd/system/$unit" ] || [ -e "$1/lib/systemd/system/$unit.service" ]; then
		systemctl --quiet --root="$1" disable "$unit"
	fi
done
systemctl --quiet --root="$1" mask getty.target console-getty dpkg-db-backup.timer fstrim.timer systemd-pstore
"""

# Else the package would save the rules of the machine that builds the tree.
_SAVE_NOTHING = """
printf 'iptables-persistent iptables-persistent/autosave_v%s boolean false\\n' 4 6 | chroot "$1" debconf-set-selections
"""


# Ubuntu's archive, and its keys, which no Debian has: the package that they come in, by checksum.
_UBUNTU, _NOBLE = "deb http://archive.ubuntu.com/ubuntu", ("noble", "noble-updates")
_UBUNTU_KEYS = "http://archive.ubuntu.com/ubuntu/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
_UBUNTU_KEYS_SUM = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8"
_KEYRING = "usr/share/keyrings/ubuntu-archive-keyring.gpg"


class UnreachableError(RuntimeError):
    """Debian's packages can't be fetched."""


@dataclass(frozen=True, slots=True)
class Root:
    """One kind of tree: a Debian release with the version of its Python, and what is in it beside the usual."""

    name: str
    suite: str
    python: str
    extra: tuple[str, ...] = _GUIDES
    # A script that mmdebstrap runs with the tree in $1, before the packages that are asked for.
    prepare: str = ""
    # Lines of a sources.list, for another archive than Debian's.
    archive: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """Every package that is asked for by name."""
        return (*PACKAGES, *self.extra)

    @property
    def prepared(self) -> tuple[str, ...]:
        """The script, if there is one."""
        return (self.prepare,) if self.prepare else ()

    @property
    def recipe(self) -> tuple[str, ...]:
        """Everything the tree is made of."""
        return (
            *(self.suite, self.python, *self.packages, *_dependencies(), WRAPPER, _FINISH, _SAVE_NOTHING),
            *(*self.prepared, *self.archive),
        )

    @property
    def path(self) -> Path:
        """Where the finished tree lies."""
        digest = hashlib.sha256("\0".join(self.recipe).encode()).hexdigest()[:12]
        return cache() / f"{self.name}-{digest}"


# What a newcomer finds on a Debian: apt, sudo, pipx; and what tries a package out as Debian does.
_NEWCOMERS = ("apt", "sudo", "pipx", "python3-venv", "autopkgtest", "openssh-client", "dnsmasq-base", "udhcpc")

BOOKWORM, TRIXIE = Root("bookworm", "bookworm", "3.11"), Root("trixie", "trixie", "3.13", (*_GUIDES, *_NEWCOMERS))
CROWDED = Root("crowded", "bookworm", "3.11", ("network-manager", "ufw", "firewalld", "docker.io"))
# Whatever else a test needs, switched off until it asks for it: one tree, because each takes a new machine a minute and a half.
WORKSHOP = Root(
    "workshop",
    "bookworm",
    "3.11",
    (
        *_GUIDES,
        *_NEWCOMERS,
        # What brings tunnels up beside wg-quick and systemd-networkd.
        *("network-manager", "openvpn"),
        # netavark is podman's network, aardvark-dns its names; Debian only recommends them.
        *("docker.io", "podman", "netavark", "aardvark-dns", "crun"),
        # The guide's: an SSH server, and what wg-quick needs for its DNS line.
        *("openssh-server", "openresolv", "curl"),
        # What Ansible asks of a host that it installs a package on.
        "python3-apt",
        # What makes an initramfs, with the programs that take the place of the usual ones there.
        *("initramfs-tools", "busybox", "udev"),
    ),
)
# netplan is what an Ubuntu configures its network with.
NOBLE = Root(
    "noble", "noble", "3.12", (*_GUIDES, "netplan.io"), archive=tuple(f"{_UBUNTU} {each} main universe" for each in _NOBLE)
)


def obtain(root: Root, say: Callable[[str], None]) -> Path:
    """Return the tree, building it when it is not there yet; `say` is told when that takes a while."""
    with locked(root.path.with_suffix(".lock")):
        if not root.path.exists():
            say(f"building a Debian tree in {root.path} (once, about a minute)")
            # Under another name, so that a tree that is there is whole.
            unfinished = root.path.with_suffix(".part")
            build(root, unfinished)
            unfinished.rename(root.path)
        _compile_source(root)
    return root.path


@cache
def _compile_source(root: Root) -> None:
    """Compile our source for the tree's Python: the machine sees it read-only, and would do so at each command."""
    private = ("unshare", "--mount", "--propagation=private", "sh", "-euc")
    script = 'mount --bind "$1" "$2$3" && exec chroot "$2" python3 -m compileall -q "$3"'
    must((*private, script, "sh", f"{REPOSITORY}/src", str(root.path), SOURCE))


def build(root: Root, unfinished: Path) -> None:
    """Build a tree in a directory that nobody looks at yet. Raises `UnreachableError` without a mirror."""
    shutil.rmtree(unfinished, ignore_errors=True)
    _debootstrap(root, unfinished)
    library = unfinished / LIBRARY.lstrip("/")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore")
    must((*pip, "--no-compile", "--only-binary=:all:", f"--python-version={root.python}", f"--target={library}", *_dependencies()))
    must(("chroot", str(unfinished), "python3", "-m", "compileall", "-q", LIBRARY))
    wrapper = unfinished / "usr/local/bin/failshut"
    wrapper.write_text(WRAPPER)
    wrapper.chmod(0o755)
    (unfinished / SOURCE.lstrip("/")).mkdir()


def _keyring(directory: Path) -> Path:
    """Fetch the keys of Ubuntu's archive. Raises `UnreachableError` without it."""
    try:
        with urllib.request.urlopen(_UBUNTU_KEYS, timeout=60) as answer:
            package = answer.read()
    except OSError as error:
        raise UnreachableError(f"Ubuntu's archive: {error}") from error
    if hashlib.sha256(package).hexdigest() != _UBUNTU_KEYS_SUM:
        raise RuntimeError("the keys of Ubuntu's archive are not those that are known")
    held = directory / "ubuntu-keyring.deb"
    held.write_bytes(package)
    must(("dpkg-deb", "--extract", str(held), str(directory)))
    return directory / _KEYRING


def _debootstrap(root: Root, target: Path) -> None:
    """Run mmdebstrap in mount and PID namespaces of its own: what it mounts in the tree is gone when it is, however it ends."""
    with tempfile.TemporaryDirectory() as room:
        keys = (f"--keyring={_keyring(Path(room))}",) if root.archive else ()
        _debootstrap_with(keys, root, target)


def _debootstrap_with(keys: tuple[str, ...], root: Root, target: Path) -> None:
    private = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child")
    excluded = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
    must(
        (
            *(*private, "--mount-proc", "mmdebstrap", "--quiet", "--mode=root", "--variant=essential", "--format=directory"),
            *(f"--include={','.join(root.packages)}", "--dpkgopt=force-unsafe-io", '--aptopt=Apt::Install-Recommends "false"'),
            *(f"--dpkgopt=path-exclude={each}" for each in excluded),
            *(f"--essential-hook={each}" for each in (_SAVE_NOTHING, *root.prepared)),
            *(f"--customize-hook={_FINISH}", *keys, root.suite, str(target), *root.archive),
        )
    )


def must(argv: tuple[str, ...]) -> None:
    """Run a program that must succeed. Raises `UnreachableError` where it found no network, else RuntimeError."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        words = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-8:])
        unreachable = any(each in words for each in ("apt-get update", "NewConnectionError", "Temporary failure"))
        raise (UnreachableError if unreachable else RuntimeError)(f"{argv[0]} failed: {words}")


def _dependencies() -> tuple[str, ...]:
    return tuple(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"])


def cache() -> Path:
    """Return where what was built is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "failshut/roots"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process build at a time; the lock goes with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
