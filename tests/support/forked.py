"""Runs failshut's commands in forks of an interpreter that has imported it, one for each of pytest's workers.

Half of a command's processor time is what Python imports. A fork is a process of its own, with the arguments, environment, standard
files and namespaces that it was given, and begins where `python -m failshut` does. The whole program is started by the tests that
boot machines, by those of the command line and of the guide, and by all where everything is tried (`make test-thorough`).
"""

from __future__ import annotations

import array
import atexit
import ctypes
import fcntl
import gc
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import NoReturn

import failshut

# How to begin, in one message, with the standard files and the socket on which the exit code is awaited.
_MOST, _FILES = 1 << 17, 4
# What a pipe may hold before anybody reads (pipe(7)).
MOST_INPUT = 1 << 18
# What begins by being imported, and what needs a library for a person at a terminal.
_NOT_AHEAD = ("failshut.__main__", "failshut.tui")
_starting = Lock()


def run(
    argv: Sequence[str],
    *,
    spaces: Sequence[str],
    group: str = "",
    stdin: str | None = None,
    env: dict[str, str] | None = None,
    timeout: float = 180,
) -> subprocess.CompletedProcess[str]:
    """Run `failshut ARGV` in the namespaces of these paths, in a cgroup where one is named; its output is text.

    Raises TimeoutError after `timeout` seconds of silence; what was started ends with its namespaces.
    """
    awaited, answering = socket.socketpair()
    said, saying = os.pipe()
    complained, complaining = os.pipe()
    asking = _full_pipe(stdin.encode()) if stdin is not None else os.dup(0)
    given = (asking, saying, complaining, answering.detach())
    how = {"argv": list(argv), "spaces": list(spaces), "group": group, "env": {**os.environ, **(env or {})}}
    try:
        with _starting:
            _server().sendmsg([json.dumps(how).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))])
        for each in given:
            os.close(each)
        with awaited:
            out, err = _all_of(said, complained, timeout=timeout)
            awaited.settimeout(timeout)
            code = awaited.recv(64)
    finally:
        os.close(said)
        os.close(complained)
    if not code:
        raise RuntimeError("the interpreter that has failshut imported is gone")
    return subprocess.CompletedProcess(list(argv), int(code), out.decode(), err.decode())


def can(stdin: str | None, env: dict[str, str] | None) -> bool:
    """Whether a fork is the same: what is set for Python itself is read before a program's first line."""
    return len(stdin or "") < MOST_INPUT and not any(each.startswith("PYTHON") for each in env or {})


def _full_pipe(content: bytes) -> int:
    """Return the end to read from of a pipe that holds this, and which nobody writes to any more."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, MOST_INPUT * 4)
    os.write(write, content)
    os.close(write)
    return read


def _all_of(*ends: int, timeout: float) -> tuple[bytes, ...]:
    """Return what comes out of pipes until nobody writes any more."""
    heard = dict.fromkeys(ends, b"")
    with selectors.DefaultSelector() as open_ends:
        for each in ends:
            open_ends.register(each, selectors.EVENT_READ)
        while open_ends.get_map():
            ready = open_ends.select(timeout)
            if not ready:
                raise TimeoutError(f"nothing more was said within {timeout:g} s")
            for key, _ in ready:
                part = os.read(key.fd, 1 << 16)
                heard[key.fd] += part
                if not part:
                    open_ends.unregister(key.fd)
    return tuple(heard.values())


@cache
def _server() -> socket.socket:
    """Start the interpreter; it ends when the socket closes, with this process at the latest."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv = (sys.executable, __file__, str(theirs.fileno()))
    subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
    theirs.close()
    return ours


def _serve(control: socket.socket) -> None:
    """Fork for each request, and say of each fork how it ended."""
    for module in pkgutil.walk_packages(failshut.__path__, "failshut."):
        if not module.name.startswith(_NOT_AHEAD):
            import_module(module.name)
    # What is there already is looked through in no fork.
    gc.freeze()
    with selectors.DefaultSelector() as waiting:
        waiting.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.data:
                    waiting.unregister(key.fd)
                    _tell(key.fd, *key.data)
                    continue
                message, files, _, _ = socket.recv_fds(control, _MOST, _FILES)
                if not message:
                    return
                if not (child := os.fork()):
                    _become(json.loads(message), files)
                waiting.register(os.pidfd_open(child), selectors.EVENT_READ, (child, files.pop()))
                for each in files:
                    os.close(each)


def _tell(ended: int, child: int, answering: int) -> None:
    """Say how a fork ended, as subprocess says it."""
    os.close(ended)
    _, status = os.waitpid(child, 0)
    with socket.socket(fileno=answering) as whom:
        whom.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(how: dict, files: list[int]) -> NoReturn:
    """Be a command from its first line to its end."""
    code = 1
    try:
        for number, each in enumerate(files[:3]):
            os.dup2(each, number)
        os.closerange(3, 1 << 10)
        os.environ.clear()
        os.environ.update(how["env"])
        if how["group"]:
            Path(how["group"], "cgroup.procs").write_text("0")
        _enter(how["spaces"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["failshut", *how["argv"]]
        code = _exit_code()
    except BaseException:  # noqa: BLE001 - whatever it is, it must not go on as the server
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        for each in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                each.flush()
        os._exit(code)


def _enter(paths: list[str]) -> None:
    """Enter namespaces. All are opened before the first is entered, after which they have other paths."""
    for space in [os.open(each, os.O_RDONLY | os.O_CLOEXEC) for each in paths]:
        if ctypes.CDLL(None, use_errno=True).setns(space, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(space)


def _exit_code() -> int:
    """Run the program; return what it exits with."""
    try:
        runpy.run_module("failshut", run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            sys.stderr.write(f"{leaving.code}\n")
            return 1
        return int(leaving.code or 0)
    return 0


if __name__ == "__main__":
    # Ctrl-C is for pytest, with whose end this one comes too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(socket.socket(fileno=int(sys.argv[1])))
