"""`failshut check`, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest
from click.testing import CliRunner

from failshut.cli.main import root
from failshut.host import sources
from failshut.model.exits import Exit

EXAMPLE = Path(__file__).parents[2] / "src/failshut/examples/example.toml"
KEY = "ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ="
TUNNEL = '[tunnel.wg0]\nendpoints = ["203.0.113.10:51820"]\n'


def check(policy, *words):
    """Run `failshut check` on a file."""
    return CliRunner().invoke(root, ["check", "--policy", str(policy), *words])


@pytest.fixture
def policy(tmp_path):
    """Return a function that writes a policy and returns its path."""

    def write(text):
        path = tmp_path / "failshut.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_sound_policy_is_summed_up_in_one_line():
    """What it enforces, so that the user sees the policy was understood."""
    result = check(EXAMPLE)

    assert result.exit_code == Exit.OK
    assert result.stdout == (
        f"ok: {EXAMPLE}: wg0 to 203.0.113.10:51820, [2001:db8::10]:51820 with fwmark 0xca6c; allows dhcp, ndp, lan, ssh\n"
    )
    assert result.stderr == ""


def test_a_mistake_is_shown_as_a_compiler_shows_it(policy):
    """Place, code, cause, the line with a caret, and the remedy."""
    path = policy(TUNNEL + "  fwmrk = 51820\n")
    result = check(path)

    assert result.exit_code == Exit.USAGE
    assert result.stderr == (
        f"{path}:3:3: error[P010]: unknown key 'fwmrk' in [tunnel.wg0]\n"
        "    3 |   fwmrk = 51820\n"
        "      |   ^^^^^\n"
        "      = help: did you mean 'fwmark'?\n"
        f"{path}: 1 error\n"
    )


def test_warnings_pass_unless_strict(policy):
    """A warning is said; --strict makes it count."""
    path = policy(TUNNEL + '[allow.lan]\nprefixes = ["8.8.8.0/24"]\n')
    gentle, strict = check(path), check(path, "--strict")

    assert (gentle.exit_code, strict.exit_code) == (Exit.OK, Exit.USAGE)
    assert "warning[P022]" in gentle.stderr
    assert gentle.stdout.endswith("(1 warning)\n")
    assert strict.stdout == ""


def test_json_answers_in_one_document(policy):
    """For scripts and editors: stable keys, nothing else on standard output."""
    result = check(policy(TUNNEL + "fwmrk = 1\n"), "--json")
    answer = json.loads(result.stdout)

    assert result.exit_code == Exit.USAGE
    assert answer["ok"] is False
    assert [(each["code"], each["line"], each["column"]) for each in answer["findings"]] == [("P010", 3, 1)]
    assert json.loads(check(EXAMPLE, "--json").stdout)["ok"] is True


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent", None, "no such file"),
        ("empty", b"", "empty"),
        ("binary", b"\x7fELF\x00\xff", "NUL"),
        ("latin", b"# caf\xe9\n", "UTF-8"),
        ("large", b"#" * (16 << 20) + b"\n", "16 MiB"),
        ("nested", b"a = " + b"[" * 9000 + b"]" * 9000, "too deep"),
    ],
)
def test_a_file_that_is_no_policy_is_a_finding(tmp_path, name, content, words):
    """Never a traceback: one line that says what it is instead, and a remedy."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    result = check(path)

    assert result.exit_code == Exit.USAGE
    assert words in result.stderr
    assert "help:" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("path", ["/", "/dev/zero", "/dev/full", "x" * 5000, "a\0b", "/proc/self/mem/x"])
def test_a_path_that_is_no_file_is_a_finding(path):
    """Directories, devices, and names that no file can have."""
    result = check(path)

    assert result.exit_code == Exit.USAGE
    assert "P001" in result.stderr


def test_a_named_pipe_does_not_block(tmp_path):
    """Opening one waits for a writer that never comes."""
    subprocess.run(["mkfifo", tmp_path / "pipe"], check=True)

    assert "not a regular file" in check(tmp_path / "pipe").stderr


def test_a_config_that_only_root_may_read_says_so(policy, monkeypatch):
    """Not a mistake of the policy: exit 4, and the remedy is sudo."""
    path = policy('[tunnel.wg0]\nconfig = "wg0.conf"\n')
    real = Path.stat

    def denied(self, **options):
        if self.name == "wg0.conf":
            raise PermissionError(13, "Permission denied")
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", denied)
    result = check(path)

    assert result.exit_code == Exit.UNKNOWN
    assert "H001" in result.stderr
    assert "sudo" in result.stderr


def test_no_key_of_the_tunnel_s_config_is_printed(policy, tmp_path):
    """A mistake beside the key must not spread the key."""
    path = policy('[tunnel.wg0]\nconfig = "wg0.conf"\n')
    (tmp_path / "wg0.conf").write_text(f"[Interface]\nPrivateKye = {KEY}\nPrivateKey={KEY}\n[Pear]\n")
    result = check(path)

    assert "did you mean PrivateKey?" in result.stderr
    assert KEY[:12] not in result.output


def test_a_name_is_given_up_after_the_deadline(policy, monkeypatch):
    """With the lock armed and the tunnel down, every lookup hangs; `check` must not."""
    monkeypatch.setattr(sources.lookup, "__kwdefaults__", {"deadline": 0.05})
    gate = threading.Event()
    monkeypatch.setattr(sources, "_addresses", lambda _host: gate.wait(20))
    result = check(policy('[tunnel.wg0]\nendpoints = ["vpn.example.com:51820"]\n'))
    gate.set()

    assert result.exit_code == Exit.USAGE
    assert "P020" in result.stderr
    assert "no answer within 0.05 s" in result.stderr


def test_an_answer_that_is_no_machine_s_address_is_none():
    """What a resolver that filters says would be pinned, and the tunnel never come up. The control: a machine's address is one."""
    found = sources.lookup(["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "203.0.113.10"])

    assert found.pop("203.0.113.10") == (ip_address("203.0.113.10"),)
    assert {each.why for each in found.values()} == {f"{host} is no machine's address" for host in found}


def test_the_program_itself_exits_with_the_code(policy):
    """The runner of these tests has an exit of its own; a shell sees the program's."""
    path = policy(TUNNEL + "fwmrk = 1\n")
    asked = [sys.executable, "-c", "from failshut.cli.main import main; main()", "check", "--policy", str(path)]

    assert subprocess.run(asked, capture_output=True, check=False).returncode == Exit.USAGE


def test_only_the_verb_that_needs_pydantic_imports_it():
    """A quarter of a second is much for reading a tunnel's config."""
    code = "import sys, failshut.config.formats.wgquick, failshut.host.tunnels.adopt; sys.exit('pydantic' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
