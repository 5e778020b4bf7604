"""One way to run a program: no shell, a scrubbed locale, closed standard input, a deadline, and a command line to replay."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NOT_EXECUTABLE = 126
NOT_FOUND = 127
TIMED_OUT = 124
# linux/memfd.h
_MFD_NOEXEC_SEAL = 8

# Set by the CLI's -v; every command is then printed as it can be replayed.
_verbose = False


class NoAnswerError(Exception):
    """The machine has no process, memory or descriptor left for a program, or ended it for that: its answer is not known.

    It is no `Result`: who asks takes a refusal for "there is none", and would go on with half of the facts.
    """


@dataclass(frozen=True, slots=True)
class Result:
    """What a program answered. `code` is its exit status, 127 when it is not installed, 124 when it ran out of time."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.code == 0

    @property
    def complaint(self) -> str:
        """The program's own words on what went wrong, or its command line when it said nothing."""
        return self.err.strip() or self.out.strip() or f"{shlex.join(self.argv)} exited with {self.code}"


def search_path() -> str:
    """Return where programs are looked for: PATH, and what a plain user's and that of `su` lack on Debian; nft is there."""
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Return the path by which `run` starts a program; None where it is not installed."""
    # Imported here: `status` asks for none, and starts without.
    import shutil  # noqa: PLC0415

    return shutil.which(program, path=search_path())


def show_commands(verbose: bool) -> None:
    """Print each command before it runs, from now on."""
    global _verbose  # noqa: PLW0603 - one switch for the whole process, set once by the CLI
    _verbose = verbose


def run(
    argv: Sequence[str],
    *,
    stdin: str | bytes | None = None,
    timeout: float = 30.0,
    own_group: bool = False,
    secret: bool = False,
    directory: str | None = None,
    pass_fds: Sequence[int] = (),
) -> Result:
    """Run `argv` and return what it answered; never raises for a program that fails, is missing or hangs.

    Raises `NoAnswerError` where the machine has no room for one more, or killed it.

    Text goes in and comes out as UTF-8, whatever the locale is. All of it is there before the program begins: it never takes a part
    for the whole, should this one be killed. What is `secret` on its standard input is not printed by -v. With
    `own_group`, Ctrl-C on the terminal reaches neither the program nor what it leaves behind. `pass_fds` are open in it too.
    `timeout` is in seconds.
    """
    if _verbose:
        shown = "(a secret)" if secret else _text(stdin or b"").rstrip("\n")
        given = f" <<'EOF'\n{shown}\nEOF" if stdin is not None else ""
        sys.stderr.write(f"+ {shlex.join(argv)}{given}\n")
    environment = {**os.environ, "LC_ALL": "C", "PATH": search_path()}
    try:
        with _whole(stdin.encode() if isinstance(stdin, str) else stdin) as given_input:
            done = subprocess.run(
                list(argv),
                stdin=given_input,
                capture_output=True,
                timeout=timeout,
                check=False,
                env=environment,
                process_group=0 if own_group else None,
                cwd=directory,
                pass_fds=pass_fds,
            )
    except FileNotFoundError:
        return Result(tuple(argv), NOT_FOUND, "", f"{argv[0]} is not installed")
    except PermissionError as error:
        return Result(tuple(argv), NOT_EXECUTABLE, "", f"{argv[0]} can't be run: {error.strerror}")
    except OSError as error:
        raise NoAnswerError(f"{argv[0]} can't be started: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        return Result(tuple(argv), TIMED_OUT, "", f"{shlex.join(argv)} did not answer within {timeout:g} s")
    if done.returncode == -signal.SIGKILL:
        raise NoAnswerError(f"{argv[0]} was killed before it answered: out of memory?")
    return Result(tuple(argv), done.returncode, _text(done.stdout), _text(done.stderr))


@contextlib.contextmanager
def _whole(content: bytes | None) -> Iterator[int]:
    """Open what a program reads on its standard input, in memory; nothing for None."""
    if content is None:
        yield subprocess.DEVNULL
        return
    with os.fdopen(_memory(), "wb+") as file:
        file.write(content)
        file.seek(0)
        yield file.fileno()


def _memory() -> int:
    try:
        return os.memfd_create("failshut")
    except PermissionError:
        # vm.memfd_noexec=2 takes none that does not say so; older kernels don't know the word.
        return os.memfd_create("failshut", os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)


def _text(given: str | bytes) -> str:
    return given if isinstance(given, str) else given.decode(errors="replace")


def run_all(commands: Sequence[Sequence[str]]) -> list[Result]:
    """Run programs that only look, all at once, and return what each answered, in their order. Raises `NoAnswerError`."""
    answers: dict[int, Result | NoAnswerError] = {}

    def ask(at: int, argv: Sequence[str]) -> None:
        try:
            answers[at] = run(argv)
        except NoAnswerError as error:
            answers[at] = error

    threads = [threading.Thread(target=ask, args=each) for each in enumerate(commands)]
    try:
        for each in threads:
            each.start()
    except RuntimeError as error:
        raise NoAnswerError(f"nothing more can be started: {error}") from error
    for each in threads:
        each.join()
    for answer in answers.values():
        if isinstance(answer, NoAnswerError):
            raise answer
    return [answer for _, answer in sorted(answers.items()) if isinstance(answer, Result)]
