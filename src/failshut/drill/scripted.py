"""Somebody's script, run where it can harm nothing, and the rules that its kernel holds then.

It runs as root of a user namespace: to this machine that is a user whom nobody knows and who owns nothing. It has a network
namespace of its own with devices as guides have them and no way out, a copy of /etc, and every other file as it is, read-only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shlex
import shutil
import signal
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from failshut.drill.network import netns
from failshut.drill.network.wait import until
from failshut.drill.process import CannotDrillError, Progress, WorkerProcess
from failshut.host.filter.rules import RunningRules, running_rules
from failshut.read.files.scripts import Script

CLONE_NEWUSER = 0x10000000
# Nobody's ids: past those that systemd-nspawn picks from.
_FIRST_ID, _IDS = 0x70000000, 0x10000
_PLACE = Path("/run/failshut-script")
_MOST_SECONDS, _MOST_SAID, _MOST_WRITTEN, _MOST_PROCESSES = 30.0, 4000, 16 << 20, 512
# linux/mount.h, asm/unistd.h (one number everywhere), fcntl.h
_SYS_MOUNT_SETATTR, _RDONLY, _RECURSIVE, _HERE = 442, 0x1, 0x8000, -100
# A tmpfs of one's own, where everybody may write.
_STAND_INS = ("/tmp", "/var/tmp")  # noqa: S108
_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATH = f"{_PLACE}/bin:{_PROGRAMS}"
_SHIMS = {
    # It is root already, and sudo would not believe it.
    **dict.fromkeys(("sudo", "doas"), '#!/bin/sh\nwhile case "$1" in -*) ;; *) false ;; esac; do shift; done\nexec "$@"\n'),
    # No tunnel is up; wg-quick would have marked its packets so, and its peer would have an address (RFC 5737).
    "wg": f"""#!/bin/sh
case "$*" in
*fwmark*) echo 0xca6c ;;
*endpoints*) printf 'peer\\t203.0.113.1:51820\\n' ;;
*) [ ! -e {_PLACE}/real/wg ] || exec {_PLACE}/real/wg "$@" ;;
esac
""",
    # Nothing is started here, and what is asked for does not run; but nftables' unit loads rules.
    "systemctl": """#!/bin/sh
case "$*" in
*is-*) exit 3 ;;
*start*nftables* | *load*nftables* | *--now*nftables*) exec nft -f /etc/nftables.conf ;;
esac
""",
    # The kernel loads what rules need by itself.
    "modprobe": "#!/bin/sh\n",
}
# Stands in the place of each program that loads rules: which of them it could not load is written down, for a script may go on.
_WITNESS = f"""#!/bin/sh
"{_PLACE}/real/${{0##*/}}" "$@"
status=$?
adds=
case "${{0##*/}} $*" in
ip*" -"[AIPR]* | ip*" --append"* | ip*" --insert"* | ip*" --policy"* | ip*" --replace"* | ip*-restore*) adds=1 ;;
nft*"add "* | nft*"insert "* | nft*" -f"* | nft*" --file"*) adds=1 ;;
esac
[ $status = 0 ] || [ -z "$adds" ] || printf '%s\\n' "${{0##*/}} $*" >> {_PLACE}/refused
exit $status
"""
_ADDRESSES = {
    "eth0": ("192.168.1.100/24", "2001:db8:1::100/64"),
    "wg0": ("10.8.0.2/24", "fd00:8::2/64"),
    "tun0": ("10.8.1.2/24",),
    "docker0": ("172.17.0.1/16",),
}
_ROUTES = ("-4 route add default via 192.168.1.1 dev eth0", "-6 route add default via fe80::1 dev eth0")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a script: the rules, its exit status (None: it was ended after `seconds`), what it said.

    `refused` are the commands that were to add rules and could not; `accounts` the users and `:groups` that there were, by name.
    """

    rules: RunningRules
    status: int | None
    said: str
    refused: tuple[str, ...] = ()
    accounts: dict[str, int] = field(default_factory=dict)
    seconds: float = _MOST_SECONDS


def rules_of_script(script: Script) -> Ran:
    """Run a script and return the rules that it left. Raises CannotDrillError where that can't be done."""
    process = WorkerProcess(_Running(script), real_root=True)
    try:
        answer = process.ask("{}")
        if reason := answer.get("failed") or (not answer and (process.complaint() or "no answer")):
            raise CannotDrillError(f"the script can't be run here: {reason}")
    finally:
        process.close()
    return _ran(answer)


def _ran(answer: dict[str, object]) -> Ran:
    saves = answer["saves"]
    listed = tuple((str(a), str(b), str(c)) for a, b, c in saves) if isinstance(saves, list) else ()
    status = answer["status"]
    refused = tuple(str(answer["refused"]).splitlines())
    accounts = answer["accounts"] if isinstance(answer["accounts"], dict) else {}
    rules = RunningRules(str(answer["nft"]), listed)
    return Ran(rules, status if isinstance(status, int) else None, str(answer["said"]), refused, accounts)


@dataclass(frozen=True, slots=True)
class _Running:
    """The work that a worker is given."""

    script: Script

    def carry_out(self, job: dict[str, str], progress: Progress) -> dict[str, object]:
        """Run the script, then list the rules from outside its user namespace, with this machine's own tools."""
        del job, progress
        _shut_off()
        _furnish(self.script)
        child, network = _start()
        status = _await(child)
        netns.enter(network)
        said, refused = (_tail(_PLACE / each) for each in ("said", "refused"))
        rules = running_rules()
        heard = {"status": status, "said": said, "refused": refused, "accounts": _accounts()}
        return {"nft": rules.nft, "saves": [list(each) for each in rules.saves], **heard}

    def failed(self, job: dict[str, str], reason: str) -> dict[str, object]:
        """Return that nothing came of it."""
        del job
        return {"failed": reason}


def _accounts() -> dict[str, int]:
    """Return the number of each user that there is here, and of each `:group`."""
    listed = (("", "passwd"), (":", "group"))
    lines = [(sign, each.split(":")) for sign, file in listed for each in Path("/etc", file).read_text().splitlines()]
    return {f"{sign}{each[0]}": int(each[2]) for sign, each in lines if len(each) > 2 and each[2].isdecimal()}


def _tail(file: Path) -> str:
    return file.read_bytes()[-_MOST_SAID:].decode("utf-8", errors="replace")


def _shut_off() -> None:
    """Make every file system read-only but those that are this process' alone, and give /etc and /tmp a stand-in."""
    _set_attributes("/", on=_RDONLY, flags=_RECURSIVE)
    for each in ("/run", "/proc"):
        # What is writable in /proc is up to the script's own namespaces.
        _set_attributes(each, off=_RDONLY)
    for each in _STAND_INS:
        if Path(each).is_dir():
            netns.mount("failshut-script", each, "tmpfs", netns.MS_NOSUID | netns.MS_NODEV)
    (_PLACE / "bin").mkdir(parents=True)
    _copy(Path("/etc"), _PLACE / "etc")
    netns.mount(str(_PLACE / "etc"), "/etc", "", netns.MS_BIND)


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
            elif each.is_file() and open_to_all and each.stat().st_size < _MOST_WRITTEN:
                shutil.copyfile(each.path, there)
                there.chmod(each.stat().st_mode & 0o777)


def _furnish(script: Script) -> None:
    """Put the script, its helpers, and the users that it names in their places; all of it belongs to who runs it."""
    for name, text in _SHIMS.items():
        (_PLACE / "bin" / name).write_text(text)
    (_PLACE / "witness").write_text(_WITNESS)
    for name in ("said", "refused"):
        (_PLACE / name).touch()
    (_PLACE / "script").write_bytes(script.text)
    (_PLACE / "start").write_text(_start_script(script))
    for number, name in enumerate(script.users, start=1500):
        for file, line in (("passwd", f"{name}:x:{number}:{number}::/:/bin/false"), ("group", f"{name}:x:{number}:")):
            listed = Path("/etc", file)
            if not any(each.startswith(f"{name}:") for each in listed.read_text().splitlines()):
                listed.write_text(f"{listed.read_text()}{line}\n")
    for folder, _, files in os.walk(_PLACE):
        for path in (Path(folder), *(Path(folder, file) for file in files)):
            os.chown(path, _FIRST_ID, _FIRST_ID, follow_symlinks=False)
    for path in (*(_PLACE / "bin").iterdir(), _PLACE / "script", _PLACE / "witness"):
        path.chmod(0o755)
    for pattern, stand_in in (("*tables*", "witness"), ("nft", "witness"), ("wg", "bin/wg")):
        _stand_before(pattern, _PLACE / stand_in)
    # For xtables.lock.
    Path("/run").chmod(0o1777)


def _stand_before(pattern: str, stand_in: Path) -> None:
    """Put a stand-in where programs are, whichever PATH a script may say; the programs themselves go to a folder of their own."""
    real = _PLACE / "real"
    real.mkdir(exist_ok=True)
    for found in (each for folder in _PROGRAMS.split(":") for each in Path(folder).glob(pattern)):
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
    return f"{made}exec {interpreter}{shlex.join((f'{_PLACE}/script', *script.arguments))}\n"


def _start() -> tuple[int, int]:
    """Start the script as root of namespaces of its own; return its process, and a descriptor of its network."""
    ready, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        _become_nobody(ready[1], mapped[0])
    os.close(ready[1])
    if os.read(ready[0], 1) != b"+":
        raise CannotDrillError("the kernel refuses a user namespace (sysctl user.max_user_namespaces)")
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{kind}").write_text(f"0 {_FIRST_ID} {_IDS}\n")
    network = os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    os.write(mapped[1], b"+")
    return child, network


def _become_nobody(ready: int, mapped: int) -> NoReturn:
    try:
        netns.unshare(CLONE_NEWUSER | netns.CLONE_NEWNET)
        os.write(ready, b"+")
        os.read(mapped, 1)
        os.setgroups([])
        os.setgid(0)
        os.setuid(0)
        os.setsid()
        for limit, most in ((resource.RLIMIT_FSIZE, _MOST_WRITTEN), (resource.RLIMIT_NPROC, _MOST_PROCESSES)):
            resource.setrlimit(limit, (most, most))
        said = os.open(_PLACE / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open("/dev/null", os.O_RDONLY)
        for here, there in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(here, there)
        os.chdir(_STAND_INS[0])
        environment = {"PATH": _PATH, "HOME": _STAND_INS[0], "LC_ALL": "C", "USER": "root", "LOGNAME": "root"}
        os.closerange(3, 4096)
        os.execve("/bin/sh", ["sh", str(_PLACE / "start")], environment)  # noqa: S606 - it is a shell
    finally:
        os._exit(126)


def _await(child: int) -> int | None:
    ended: list[int] = []

    def has_ended() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        ended.extend([os.waitstatus_to_exitcode(status)] if pid else [])
        return bool(ended)

    if until(has_ended, within=_MOST_SECONDS):
        return ended[0]
    os.killpg(child, signal.SIGKILL)
    return None
