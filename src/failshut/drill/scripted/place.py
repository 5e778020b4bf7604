"""Where a script runs: a machine to look at, whose programs tell on it, and on which it can change nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shlex
import shutil
import stat
from pathlib import Path

from failshut.drill.network import netns
from failshut.read.files.scripts import Script

# Nobody's ids, and how many: past those that systemd-nspawn picks from.
FIRST_ID, IDS = 0x70000000, 0x10000
PLACE = Path("/run/failshut-script")
# In bytes, of one file.
MOST_WRITTEN = 16 << 20
# linux/mount.h, asm/unistd.h (one number everywhere), fcntl.h
_SYS_MOUNT_SETATTR, _RDONLY, _RECURSIVE, _HERE = 442, 0x1, 0x8000, -100
# A tmpfs of one's own, where everybody may write.
STAND_INS = ("/tmp", "/var/tmp")  # noqa: S108
PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The tunnel's server, and the network of what else is looked up (RFC 5737).
SERVER, LOOKED_UP = "203.0.113.1", "203.0.113.{}"
_SHIMS = {
    # It is root already, and sudo would not believe it.
    **dict.fromkeys(("sudo", "doas"), '#!/bin/sh\nwhile case "$1" in -*) ;; *) false ;; esac; do shift; done\nexec "$@"\n'),
    # No tunnel is up; wg-quick would have marked its packets so, and its peer would have an address (RFC 5737).
    "wg": f"""#!/bin/sh
case "$*" in
*fwmark*) echo 0xca6c ;;
*endpoints*) printf 'peer\\t{SERVER}:51820\\n' ;;
*) [ ! -e {PLACE}/real/wg ] || exec {PLACE}/real/wg "$@" ;;
esac
""",
    # Nothing is started here, and what is asked for does not run; but nftables' unit loads rules.
    "systemctl": """#!/bin/sh
case "$*" in
*is-*) exit 3 ;;
*start*nftables* | *load*nftables* | *--now*nftables*) exec nft -f /etc/nftables.conf ;;
esac
""",
    # Every name has an address; what no file knows has the server's.
    **dict.fromkeys(
        ("dig", "drill", "host", "nslookup", "resolveip"),
        f"""#!/bin/sh
named=
kind=A
for each; do
  case "$each" in
  AAAA | -6 | TXT | MX | PTR | -x) kind=none ;;
  -* | +* | @* | A) ;;
  *.*) case "$named" in '') named="$each" ;; esac ;;
  esac
done
[ -n "$named" ] && [ $kind = A ] || exit 0
found=$(getent ahostsv4 "$named" | awk '{{ print $1; exit }}')
: "${{found:={SERVER}}}"
case "${{0##*/}} $*" in
host*) echo "$named has address $found" ;;
nslookup*) printf 'Server:\\t127.0.0.53\\nAddress:\\t127.0.0.53#53\\n\\nName:\\t%s\\nAddress: %s\\n' "$named" "$found" ;;
*+short* | resolveip*) echo "$found" ;;
*) printf ';; ANSWER SECTION:\\n%s.\\t300\\tIN\\tA\\t%s\\n' "$named" "$found" ;;
esac
""",
    ),
    # What they would have fetched may be what the rules are made of.
    **dict.fromkeys(("curl", "wget"), f"#!/bin/sh\nprintf '%s\\n' \"${{0##*/}} $*\" >> {PLACE}/refused\nexit 6\n"),
    # The kernel loads what rules need by itself.
    "modprobe": "#!/bin/sh\n",
}
# Stands in the place of each program that loads rules: which of them it could not load is written down, for a script may go on.
_WITNESS = f"""#!/bin/sh
"{PLACE}/real/${{0##*/}}" "$@"
status=$?
adds=
case "${{0##*/}} $*" in
ip*" -"[AIPR]* | ip*" --append"* | ip*" --insert"* | ip*" --policy"* | ip*" --replace"* | ip*-restore*) adds=1 ;;
ipset*" add "* | ipset*restore*) adds=1 ;;
nft*"add "* | nft*"insert "* | nft*" -f"* | nft*" --file"*) adds=1 ;;
esac
[ $status = 0 ] || [ -z "$adds" ] || printf '%s\\n' "${{0##*/}} $*" >> {PLACE}/refused
exit $status
"""
# A tunnel's config that a script reads its server out of, where nobody but root may read the machine's own.
_WIREGUARD = f"""[Interface]
PrivateKey = {"A" * 43}=
Address = 10.8.0.2/24, fd00:8::2/64
DNS = 10.8.0.1

[Peer]
PublicKey = {"B" * 43}=
Endpoint = {SERVER}:51820
AllowedIPs = 0.0.0.0/0, ::/0
"""
_OPENVPN = f"client\ndev tun\nproto udp\nremote {SERVER} 1194\n"
_CONFIG = re.compile(rb"/etc/(?:wireguard/[\w.@-]+\.conf|openvpn/[\w./@-]+\.(?:conf|ovpn))")
_ADDRESSES = {
    "eth0": ("192.168.1.100/24", "2001:db8:1::100/64"),
    "wg0": ("10.8.0.2/24", "fd00:8::2/64"),
    "tun0": ("10.8.1.2/24",),
    "docker0": ("172.17.0.1/16",),
}
_ROUTES = ("-4 route add default via 192.168.1.1 dev eth0", "-6 route add default via fe80::1 dev eth0")
_libc = ctypes.CDLL(None, use_errno=True)


def shut_off() -> None:
    """Make every file system read-only but those that are this process' alone, and give /etc and /tmp a stand-in."""
    _set_attributes("/", on=_RDONLY, flags=_RECURSIVE)
    for each in ("/run", "/proc"):
        # What is writable in /proc is up to the script's own namespaces.
        _set_attributes(each, off=_RDONLY)
    for each in STAND_INS:
        if Path(each).is_dir():
            netns.mount("failshut-script", each, "tmpfs", netns.MS_NOSUID | netns.MS_NODEV)
    (PLACE / "bin").mkdir(parents=True)
    _copy(Path("/etc"), PLACE / "etc")
    netns.mount(str(PLACE / "etc"), "/etc", "", netns.MS_BIND)


def _set_attributes(path: str, *, on: int = 0, off: int = 0, flags: int = 0) -> None:
    wanted = (ctypes.c_uint64 * 4)(on, off, 0, 0)
    if _libc.syscall(_SYS_MOUNT_SETATTR, _HERE, path.encode(), flags, wanted, ctypes.sizeof(wanted)):
        number = ctypes.get_errno()
        raise OSError(number, f"mount_setattr {path}: {os.strerror(number)}")


def _copy(source: Path, target: Path) -> None:
    """Copy what everybody may read, and ufw's rules, which hold no secret."""
    target.mkdir(exist_ok=True)
    for each in os.scandir(source):
        there = target / each.name
        with contextlib.suppress(OSError):
            open_to_all = each.stat(follow_symlinks=False).st_mode & stat.S_IROTH or source.name == "ufw"
            if each.is_symlink():
                there.symlink_to(Path(each.path).readlink())
            elif each.is_dir() and open_to_all:
                _copy(Path(each.path), there)
            elif each.is_file() and open_to_all and each.stat().st_size < MOST_WRITTEN:
                shutil.copyfile(each.path, there)
                there.chmod(each.stat().st_mode & 0o777)


def stand_ins(script: Script) -> dict[str, str]:
    """Return the address that stands for each host which a script names."""
    return {name: LOOKED_UP.format(number) for number, name in enumerate(script.hosts, start=10)}


def furnish(script: Script) -> None:
    """Put the script, its helpers, and the users that it names in their places; all of it belongs to who runs it."""
    for name, text in _SHIMS.items():
        (PLACE / "bin" / name).write_text(text)
    (PLACE / "witness").write_text(_WITNESS)
    for name in ("said", "refused"):
        (PLACE / name).touch()
    (PLACE / "script").write_bytes(script.text)
    (PLACE / "start").write_text(_start_script(script))
    _fill_etc(script)
    for folder, _, files in os.walk(PLACE):
        for path in (Path(folder), *(Path(folder, file) for file in files)):
            os.chown(path, FIRST_ID, FIRST_ID, follow_symlinks=False)
    for path in (*(PLACE / "bin").iterdir(), PLACE / "script", PLACE / "witness"):
        path.chmod(0o755)
    for pattern, stand_in in (("*tables*", "witness"), ("nft", "witness"), ("ipset", "witness"), ("wg", "bin/wg")):
        _stand_before(pattern, PLACE / stand_in)
    # For xtables.lock.
    Path("/run").chmod(0o1777)


def _fill_etc(script: Script) -> None:
    """Give the copy of /etc what a script looks for: its users, the hosts that it names, a tunnel's config."""
    for number, name in enumerate(script.users, start=1500):
        for file, line in (("passwd", f"{name}:x:{number}:{number}::/:/bin/false"), ("group", f"{name}:x:{number}:")):
            listed = Path("/etc", file)
            if not any(each.startswith(f"{name}:") for each in listed.read_text().splitlines()):
                listed.write_text(f"{listed.read_text()}{line}\n")
    for each in {"/etc/wireguard/wg0.conf", *(found.decode() for found in _CONFIG.findall(script.text))}:
        if not Path(each).exists():
            Path(each).parent.mkdir(parents=True, exist_ok=True)
            Path(each).write_text(_WIREGUARD if "wireguard" in each else _OPENVPN)
    hosts = "".join(f"{address} {name}\n" for name, address in stand_ins(script).items())
    Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{hosts}")


def _stand_before(pattern: str, stand_in: Path) -> None:
    """Put a stand-in where programs are, whichever PATH a script may say; the programs themselves go to a folder of their own."""
    real = PLACE / "real"
    real.mkdir(exist_ok=True)
    for found in (each for folder in PROGRAMS.split(":") for each in Path(folder).glob(pattern)):
        program, name = found.resolve(), real / found.name
        # Many names lead to one program, which tells them apart by how it is called.
        copy = real / f"{program.name}.program"
        if not copy.exists():
            shutil.copy(program, copy)
            netns.mount(str(stand_in), str(program), "", netns.MS_BIND)
        if not name.is_symlink():
            name.symlink_to(copy)


def _start_script(script: Script) -> str:
    devices = dict.fromkeys([*_ADDRESSES, *script.devices])
    lines = [f"link add name {each} type veth peer name far{n}" for n, each in enumerate(devices)]
    lines += [f"link set dev {each} up" for each in ("lo", *devices)] + [f"link set dev far{n} up" for n, _ in enumerate(devices)]
    lines += [f"address add {each} dev {name}" for name, those in _ADDRESSES.items() for each in those]
    batch = "\n".join(lines)
    routes = "\n".join(f"ip {each}" for each in _ROUTES)
    # A kernel without IPv6 has none of its addresses.
    made = f"ip -force -batch - 2>/dev/null <<'END'\n{batch}\nEND\n(\n{routes}\n) 2>/dev/null\n"
    interpreter = f"$(command -v {script.interpreter} || echo sh) " if script.interpreter else ""
    return f"{made}exec {interpreter}{shlex.join((f'{PLACE}/script', *script.arguments))}\n"
