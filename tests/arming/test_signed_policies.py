"""A machine that asks for signatures arms what a trusted key has signed, and nothing else: whatever is done to either file."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from failshut.config.declaration import Unreadable
from failshut.host import signature
from failshut.host.run import run
from failshut.host.sources import read_policy
from failshut.model.exits import Exit
from failshut.model.finding import Code, Finding
from sandbox import CONFIG, FAILSHUT, POLICY, Sandbox

FILE, SIG, SIGNERS = "/etc/failshut/failshut.toml", "/etc/failshut/failshut.toml.sig", "/etc/failshut/allowed_signers"
SIGNED = f"serial = 7\n{POLICY}"
# What an attacker would like to have signed.
WIDER = SIGNED.replace('24"]', '24", "192.168.60.0/24"]')


def made(*argv: str) -> None:
    done = run(argv)
    assert done.ok, done.complaint


class Place:
    """A policy, its signature and a list of signers in a directory; trusted are alice's key, and carol's, which has expired."""

    def __init__(self, room: Path) -> None:
        self.policy, self.sig, self.signers = room / "failshut.toml", room / "failshut.toml.sig", room / "allowed_signers"
        self.room = room
        key = {}
        for name in ("alice", "carol", "mallory"):
            made("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(room / name))
            key[name] = (room / f"{name}.pub").read_text()
        self.signers.write_text(
            f'alice namespaces="failshut-policy" {key["alice"]}'
            f'carol namespaces="failshut-policy",valid-before="20200101" {key["carol"]}'
        )
        self.policy.write_text(SIGNED)
        self.sign()

    def sign(self, by: str = "alice", namespace: str = "failshut-policy", what: str = "failshut.toml") -> None:
        """Sign as the docs say, by ssh-keygen alone."""
        self.sig.unlink(missing_ok=True)
        made("ssh-keygen", "-q", "-Y", "sign", "-f", str(self.room / by), "-n", namespace, str(self.room / what))
        (self.room / f"{what}.sig").replace(self.sig)


@pytest.fixture
def place(tmp_path, monkeypatch):
    it = Place(tmp_path)
    monkeypatch.setattr(signature, "SIGNERS", it.signers)
    return it


def instead(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


TAMPERED = {
    "one line end more": (lambda it: append(it.policy, "\n"), Code.BAD_SIGNATURE),
    "another allowance": (lambda it: it.policy.write_text(WIDER), Code.BAD_SIGNATURE),
    "no signature": (lambda it: it.sig.unlink(), Code.UNSIGNED),
    "an empty signature": (lambda it: it.sig.write_text(""), Code.BAD_SIGNATURE),
    "half a signature": (lambda it: it.sig.write_text(it.sig.read_text()[:100]), Code.BAD_SIGNATURE),
    "a huge signature": (lambda it: it.sig.write_text(it.sig.read_text() * 1000), Code.BAD_SIGNATURE),
    "a signature larger than any file": (lambda it: os.truncate(it.sig, 1 << 30), Code.UNSIGNED),
    "an endless signature": (lambda it: instead(it.sig, "/dev/zero"), Code.UNSIGNED),
    "a signature that is a directory": (lambda it: a_directory(it.sig), Code.UNSIGNED),
    "a signature that leads nowhere": (lambda it: instead(it.sig, "/nowhere"), Code.UNSIGNED),
    "the policy as its own signature": (lambda it: shutil.copy(it.policy, it.sig), Code.BAD_SIGNATURE),
    "another key": (lambda it: it.sign(by="mallory"), Code.UNKNOWN_SIGNER),
    "a key that has expired": (lambda it: it.sign(by="carol"), Code.UNKNOWN_SIGNER),
    "another namespace": (lambda it: it.sign(namespace="file"), Code.BAD_SIGNATURE),
    "the signature of another file": (lambda it: it.sign(what="alice.pub"), Code.BAD_SIGNATURE),
    "no signers": (lambda it: it.signers.write_text(""), Code.UNKNOWN_SIGNER),
    "a list of signers that is none": (lambda it: it.signers.write_text("alice\n"), Code.UNKNOWN_SIGNER),
    "a signer for another namespace": (
        lambda it: it.signers.write_text(it.signers.read_text().replace("failshut-policy", "git")),
        Code.UNKNOWN_SIGNER,
    ),
    "signers that anybody may write": (lambda it: it.signers.chmod(0o666), Code.SIGNERS_UNSAFE),
    "signers of another user": (lambda it: os.chown(it.signers, 65534, -1), Code.SIGNERS_UNSAFE),
    "signers that lead nowhere": (lambda it: instead(it.signers, "/nowhere"), Code.SIGNERS_UNSAFE),
    "signers in a pipe": (lambda it: a_pipe(it.signers), Code.SIGNERS_UNSAFE),
    "signers in a directory": (lambda it: a_directory(it.signers), Code.SIGNERS_UNSAFE),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_whatever_is_not_well_signed_is_refused(place, what):
    """The control: before that it is taken."""
    tamper, code = TAMPERED[what]
    assert read_policy(str(place.policy)) == signature.Authentic(SIGNED.encode(), "alice"), "the control"

    tamper(place)
    found = read_policy(str(place.policy))

    assert isinstance(found, Finding)
    assert (found.code, found.is_error, bool(found.message)) == (code, True, True)


def test_the_key_that_is_refused_is_named(place):
    place.sign(by="mallory")
    fingerprint = run(("ssh-keygen", "-l", "-f", str(place.room / "mallory.pub"))).out.split()[1]

    assert (
        f"signed with {fingerprint}, which {place.signers} does not allow: no principal matched"
        in read_policy(str(place.policy)).message
    )


def test_what_was_verified_is_what_is_parsed(place):
    """A link that leads to the signed policy and to another in turn: every read is the signed text or refused, never the other."""
    good, evil, beside = place.room / "good", place.room / "evil", place.room / "beside"
    good.write_text(SIGNED)
    evil.write_text(WIDER)
    instead(place.policy, str(good))
    over = threading.Event()

    def swap():
        while not over.is_set():
            for target in (evil, good):
                beside.symlink_to(target)
                beside.replace(place.policy)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        seen = [read_policy(str(place.policy)) for _ in range(60)]
    finally:
        over.set()
        swapper.join()

    assert {each.text for each in seen if not isinstance(each, Finding)} == {SIGNED.encode()}
    refused = {each.code for each in seen if isinstance(each, Finding)}
    assert refused == {Code.BAD_SIGNATURE}, "the control: the other one was never there"


TEXTS = {"no text": b"\xff\xfe\x00", "line ends": "name = 'Zoë'\r\n".encode(), "empty": b"", "long": b"\0" * 70_000}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_signature_is_of_the_bytes_whatever_they_are(place, text):
    sig = signature.sign(text, str(place.room / "alice")).out.encode()

    assert signature.verified(text, sig, "p") == signature.Authentic(text, "alice")
    for other in (text + b"\n", text.replace(b"\r", b""), text.replace(b"\xff", "\N{REPLACEMENT CHARACTER}".encode())):
        if other != text:
            assert signature.verified(other, sig, "p").code is Code.BAD_SIGNATURE


def test_without_ssh_keygen_nothing_is_taken(place, monkeypatch):
    """It fails shut: what can't be checked is refused."""
    monkeypatch.setenv("PATH", str(place.room))
    assert read_policy(str(place.policy)).code is Code.NOT_CHECKED


def test_a_signature_that_may_not_be_read_is_not_known_rather_than_wrong(place):  # noqa: ARG001 - trusts a key
    assert signature.verified(b"", Unreadable("permission denied", denied=True), "p").code is Code.NO_PRIVILEGE


class Signing(Sandbox):
    """A machine that trusts alice, and what somebody signs on it."""

    def __enter__(self):
        super().__enter__()
        self.write("/etc/wireguard/wg0.conf", CONFIG)
        for name in ("alice", "mallory"):
            self.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"/run/{name}")
        self.write(SIGNERS, f'alice@example.com namespaces="failshut-policy" {self.read("/run/alice.pub")}')
        return self

    def signed(self, text: str, by: str = "alice") -> None:
        """Put a policy and its signature in their places."""
        self.write(FILE, text)
        self.must(*FAILSHUT, "sign", f"/run/{by}")

    def rules(self) -> str:
        """Return the kernel's rules."""
        return self.must("nft", "-s", "list", "ruleset")


@pytest.fixture(scope="module")
def armed():
    with Signing() as machine:
        machine.signed(SIGNED)
        machine.must(*FAILSHUT, "arm")
        yield machine


def test_check_and_status_say_who_signed(armed):
    armed.signed(SIGNED)

    assert "signed by alice@example.com, which does not cover /etc/wireguard/wg0.conf\n" in armed.failshut("check").stdout
    assert "signed by  alice@example.com\n" in armed.failshut("status").stdout
    assert json.loads(armed.failshut("status", "--json").stdout)["signed_by"] == "alice@example.com"


def test_what_is_not_well_signed_changes_nothing_by_whatever_verb(armed):
    """Exit 2 with the finding, and the lock as it was; another --policy is no way around."""
    before = armed.rules()
    armed.signed(WIDER, by="mallory")

    for words in (("check",), ("plan",), ("arm",), ("allow", "lan", "--for", "1m"), ("exec", "--outside", "--", "true")):
        said = armed.failshut(*words)
        assert (said.returncode, f"[{Code.UNKNOWN_SIGNER}]" in said.stderr) == (Exit.USAGE, True), f"{words}: {said.stderr}"
    armed.write("/run/other.toml", WIDER)
    said = armed.failshut("--policy", "/run/other.toml", "arm")
    assert (said.returncode, f"[{Code.UNSIGNED}]" in said.stderr) == (Exit.USAGE, True), said.stderr

    assert armed.rules() == before
    assert armed.failshut("status").returncode == Exit.OK


def test_an_older_policy_is_not_armed_however_well_it_is_signed(armed):
    """Replayed: what alice signed a year ago opens what she has closed since."""
    armed.signed(f"serial = 8\n{POLICY}")
    armed.must(*FAILSHUT, "arm")
    before = armed.rules()

    for older in (WIDER, POLICY):
        armed.signed(older)
        said = armed.failshut("arm")
        assert (said.returncode, f"[{Code.OLDER_SERIAL}]" in said.stderr) == (Exit.USAGE, True), said.stderr
    assert armed.rules() == before


def test_a_policy_with_mistakes_is_not_signed_nor_is_any_by_what_is_no_key(armed):
    armed.write(FILE, "[tunnel.wg0]\nfwmrk = 1\n")
    armed.run("rm", "-f", SIG)
    said = armed.failshut("sign", "/run/alice")
    assert (said.returncode, "P010" in said.stderr) == (Exit.USAGE, True)

    armed.write(FILE, SIGNED)
    said = armed.failshut("sign", "/etc/passwd")
    assert (said.returncode, "the policy is not signed" in said.stderr) == (Exit.FAILED, True)
    assert armed.run("test", "-e", SIG).returncode == 1


def test_a_machine_without_signers_asks_for_no_signature():
    with Sandbox() as machine:
        machine.adopt_example()
        assert machine.failshut("arm").returncode == Exit.OK
        # From now on it does, also of what is armed already.
        machine.write(SIGNERS, "")
        assert machine.failshut("arm").returncode == Exit.USAGE
        assert machine.failshut("status").returncode == Exit.OK
        assert machine.failshut("disarm", "--yes").returncode == Exit.OK
