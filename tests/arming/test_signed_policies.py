"""A machine that asks for signatures arms what a trusted key has signed, and nothing else: whatever is done to file or signature."""

from __future__ import annotations

import json
import threading

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
# What an attacker would have signed: the whole Internet beside the tunnel, nearly.
WIDER = SIGNED.replace('24"]', '24", "10.0.0.0/8"]')
OLDER = f"serial = 6\n{POLICY}"


class Signing(Sandbox):
    """A machine with a trusted key (alice), a trusted key that has expired (carol), and one that nobody knows (mallory)."""

    def __enter__(self):
        super().__enter__()
        for name in ("alice", "carol", "mallory"):
            self.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"/run/{name}")
        self.write("/etc/wireguard/wg0.conf", CONFIG)
        self.trust()
        return self

    def trust(self):
        """Write the list of signers."""
        key = {name: self.read(f"/run/{name}.pub").rsplit(" ", 1)[0] for name in ("alice", "carol")}
        carol = f'carol namespaces="failshut-policy",valid-before="20200101" {key["carol"]}\n'
        self.write(SIGNERS, f'alice@example.com namespaces="failshut-policy" {key["alice"]}\n{carol}')
        self.must("chmod", "644", SIGNERS)

    def signed(self, text=SIGNED, by="alice"):
        """Put a policy and its signature in their places."""
        self.write(FILE, text)
        done = self.failshut("sign", f"/run/{by}")
        assert done.returncode == 0, done.stderr

    def must(self, *argv):
        done = self.run(*argv)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rules(self):
        return self.must("nft", "-s", "list", "ruleset")


@pytest.fixture(scope="module")
def armed():
    with Signing() as machine:
        machine.signed()
        done = machine.failshut("arm")
        assert done.returncode == 0, done.stderr
        yield machine


def test_a_signed_policy_is_armed_and_check_and_status_say_by_whom(armed):
    armed.signed()

    assert "signed by alice@example.com, which does not cover /etc/wireguard/wg0.conf\n" in armed.failshut("check").stdout
    assert json.loads(armed.failshut("check", "--json").stdout)["signed_by"] == "alice@example.com"
    assert armed.failshut("plan", "--exit-code").returncode == Exit.OK
    assert armed.failshut("arm").returncode == Exit.OK
    assert "signed by  alice@example.com\n" in armed.failshut("status").stdout
    assert json.loads(armed.failshut("status", "--json").stdout)["signed_by"] == "alice@example.com"


def test_what_ssh_keygen_signs_by_itself_is_as_good(armed):
    """The documented command, without failshut."""
    armed.write(FILE, SIGNED)
    armed.must("sh", "-c", f"rm -f {SIG}; ssh-keygen -Y sign -f /run/alice -n failshut-policy {FILE}")

    assert armed.failshut("check").returncode == Exit.OK


# What is done to a well-signed policy, and what is then said.
TAMPERED = {
    "one byte more in the policy": (f"printf '\\n' >> {FILE}", Code.BAD_SIGNATURE),
    "another allowance": (f"sed -i 's/50.0/51.0/' {FILE}", Code.BAD_SIGNATURE),
    "no signature": (f"rm {SIG}", Code.UNSIGNED),
    "an empty signature": (f": > {SIG}", Code.BAD_SIGNATURE),
    "a huge signature": (f"yes $(cat {SIG}) | head -c 1000000 > {SIG}.new; mv {SIG}.new {SIG}", Code.BAD_SIGNATURE),
    "an endless signature": (f"ln -sf /dev/zero {SIG}", Code.UNSIGNED),
    "a directory": (f"rm {SIG}; mkdir {SIG}", Code.UNSIGNED),
    "a signature that leads nowhere": (f"ln -sf /nowhere {SIG}", Code.UNSIGNED),
    "the policy as its own signature": (f"cp {FILE} {SIG}", Code.BAD_SIGNATURE),
    "another key": (f"rm {SIG}; ssh-keygen -q -Y sign -f /run/mallory -n failshut-policy {FILE}", Code.UNKNOWN_SIGNER),
    "a key that has expired": (f"rm {SIG}; ssh-keygen -q -Y sign -f /run/carol -n failshut-policy {FILE}", Code.UNKNOWN_SIGNER),
    "another namespace": (f"rm {SIG}; ssh-keygen -q -Y sign -f /run/alice -n file {FILE}", Code.BAD_SIGNATURE),
    "the signature of another file": (
        f"ssh-keygen -q -Y sign -f /run/alice -n failshut-policy /etc/wireguard/wg0.conf && mv /etc/wireguard/wg0.conf.sig {SIG}",
        Code.BAD_SIGNATURE,
    ),
    "signers that nobody wrote": (f": > {SIGNERS}", Code.UNKNOWN_SIGNER),
    "signers that anybody may write": (f"chmod 666 {SIGNERS}", Code.SIGNERS_UNSAFE),
    "signers of another user": (f"chown nobody {SIGNERS}", Code.SIGNERS_UNSAFE),
    "signers that lead nowhere": (f"ln -sf /nowhere {SIGNERS}", Code.SIGNERS_UNSAFE),
    "signers in a directory": (f"rm {SIGNERS}; mkdir {SIGNERS}", Code.SIGNERS_UNSAFE),
    "a signer struck off": (f"sed -i /alice/d {SIGNERS}", Code.UNKNOWN_SIGNER),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_whatever_is_not_well_signed_is_neither_planned_nor_armed(armed, what):
    """Exit 2, the code of the finding, and the lock as it was. The control: before that it is taken."""
    armed.signed()
    assert armed.failshut("check").returncode == Exit.OK, "the control"
    script, code = TAMPERED[what]
    before = armed.rules()
    armed.must("sh", "-c", script)

    try:
        for verb in ("check", "plan", "arm"):
            said = armed.failshut(verb)
            assert (said.returncode, f"[{code}]" in said.stderr) == (Exit.USAGE, True), f"{verb}: {said.stderr}"
        assert armed.rules() == before
        assert armed.failshut("status").returncode == Exit.OK
    finally:
        armed.must("rm", "-rf", SIGNERS, SIG)
        armed.trust()


def test_the_key_that_is_refused_is_named(armed):
    armed.signed(by="mallory")
    said = armed.failshut("check").stderr
    fingerprint = armed.must("ssh-keygen", "-l", "-f", "/run/mallory.pub").split()[1]

    assert fingerprint in said
    assert "no principal matched" in said


def test_another_policy_than_the_usual_is_no_way_around_a_signature(armed):
    armed.write("/run/other.toml", WIDER)

    assert armed.failshut("--policy", "/run/other.toml", "arm").returncode == Exit.USAGE


def test_an_older_policy_is_not_armed_however_well_it_is_signed(armed):
    """Replayed: what alice signed a year ago opens what she has closed since."""
    armed.signed(f"serial = 8\n{POLICY}")
    assert armed.failshut("arm").returncode == Exit.OK
    before = armed.rules()

    for older in (OLDER, SIGNED, POLICY):
        armed.signed(older)
        said = armed.failshut("arm")
        assert (said.returncode, f"[{Code.OLDER_SERIAL}]" in said.stderr) == (Exit.USAGE, True), said.stderr
    assert armed.rules() == before


def test_without_ssh_keygen_nothing_is_armed(armed):
    """It fails shut: what can't be checked is refused."""
    armed.signed(f"serial = 9\n{POLICY}")
    hide = "mount -t tmpfs none /run/empty && for each in /usr/bin/*; do ln -s $each /run/empty/; done; rm /run/empty/ssh-keygen"
    armed.must("sh", "-c", f"mkdir -p /run/empty && {hide}")
    said = armed.failshut("arm", env={"PATH": "/run/empty:/run/empty-too"})

    assert (said.returncode, f"[{Code.NOT_CHECKED}]" in said.stderr) == (Exit.USAGE, True), said.stderr


def test_a_user_who_may_not_read_the_signers_is_told_so(armed):
    armed.signed(f"serial = 9\n{POLICY}")
    armed.must("chmod", "600", SIGNERS)
    said = armed.run("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", *FAILSHUT, "check")
    armed.must("chmod", "644", SIGNERS)

    assert (said.returncode, "may not be read" in said.stderr) == (Exit.UNKNOWN, True), said.stderr


def test_a_policy_with_mistakes_is_not_signed(armed):
    armed.write(FILE, "[tunnel.wg0]\nfwmrk = 1\n")
    armed.run("rm", "-f", SIG)
    said = armed.failshut("sign", "/run/alice")

    assert (said.returncode, "P010" in said.stderr) == (Exit.USAGE, True)
    assert armed.run("test", "-e", SIG).returncode == 1


def test_what_is_no_key_signs_nothing(armed):
    armed.write(FILE, SIGNED)
    said = armed.failshut("sign", "/etc/passwd")

    assert said.returncode == Exit.FAILED
    assert "the policy is not signed" in said.stderr


def test_a_machine_without_signers_asks_for_no_signature():
    with Sandbox() as machine:
        machine.adopt_example()
        assert machine.failshut("check").returncode == Exit.OK
        assert machine.failshut("arm").returncode == Exit.OK
        # From now on it does, also of what is armed already.
        machine.write(SIGNERS, "")
        assert machine.failshut("arm").returncode == Exit.USAGE
        assert machine.failshut("status").returncode == Exit.OK
        assert machine.failshut("disarm", "--yes").returncode == Exit.OK


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """Trust a key, in files of this test's own; return the key's path."""
    key, signers = tmp_path / "alice", tmp_path / "allowed_signers"
    assert run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]).ok
    signers.write_text(f"alice {key.with_suffix('.pub').read_text()}")
    monkeypatch.setattr(signature, "SIGNERS", signers)
    monkeypatch.setattr(signature.is_required, "__defaults__", (signers,))
    monkeypatch.setattr(signature.verified, "__defaults__", (signers,))
    return key


def test_what_was_verified_is_what_is_parsed(tmp_path, keys):
    """A link that leads to the signed policy and to another in turn: every read is the signed text or refused, never the other."""
    good, evil, policy = tmp_path / "good", tmp_path / "evil", tmp_path / "failshut.toml"
    good.write_text(SIGNED)
    evil.write_text(WIDER)
    (tmp_path / "failshut.toml.sig").write_text(signature.sign(SIGNED.encode(), str(keys)).out)
    policy.symlink_to(good)
    over = threading.Event()

    def swap():
        beside = tmp_path / "beside"
        while not over.is_set():
            for target in (evil, good):
                beside.symlink_to(target)
                beside.replace(policy)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        seen = [read_policy(str(policy)) for _ in range(60)]
    finally:
        over.set()
        swapper.join()

    taken = [each.text for each in seen if not isinstance(each, Finding)]
    refused = [each.code for each in seen if isinstance(each, Finding)]
    assert set(taken) == {SIGNED.encode()}
    assert set(refused) == {Code.BAD_SIGNATURE}, "the control: the other one was never there"


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", "name = 'Zoë'\r\n".encode(), b"", b"\0" * 70_000], ids=repr)
def test_the_signature_is_of_the_bytes_whatever_they_are(keys, text):
    made = signature.sign(text, str(keys)).out.encode()

    assert signature.verified(text, made, "p") == signature.Authentic(text, "alice")
    for other in (text + b"\n", text.replace(b"\r", b""), text.replace(b"\xff", "\N{REPLACEMENT CHARACTER}".encode())):
        if other != text:
            assert signature.verified(other, made, "p").code is Code.BAD_SIGNATURE


def test_a_signature_that_may_not_be_read_is_not_known_rather_than_wrong(keys):  # noqa: ARG001 - trusts a key
    assert signature.verified(b"", Unreadable("permission denied", denied=True), "p").code is Code.NO_PRIVILEGE
