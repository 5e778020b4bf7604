"""What is no ruleset, or half of one: a finding with its place, never a traceback, never a silent proof, and soon."""

from __future__ import annotations

import json
import os
import subprocess
import threading

import pytest
from click.testing import CliRunner

from amount import thorough
from failshut.cli.audit_given import MOST
from failshut.cli.main import root
from failshut.model.exits import Exit

SAVE = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT DROP [0:0]
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -o wg0 -j ACCEPT
"""
NFT = """table inet ks {
\tchain fw {
\t\ttype filter hook forward priority 0; policy drop;
\t}
\tchain out {
\t\ttype filter hook output priority 0; policy drop;
\t\toifname { "lo", "wg0" } accept
"""
JSON = '{"nftables": [{"table": {"family": "inet", "name": "ks"}}, {"chain": {"family": "inet", "ta'
SAVE_LOOP = SAVE + ":a - [0:0]\n:b - [0:0]\n-A OUTPUT -j a\n-A a -j b\n-A b -j a\nCOMMIT\n"
NFT_LOOP = NFT + "\t\tjump a\n\t}\n\tchain a {\n\t\tjump b\n\t}\n\tchain b {\n\t\tgoto a\n\t}\n}\n"

BROKEN = {
    "half a save": (SAVE, 7),
    "half a listing": (NFT, 5),
    "half a JSON": (JSON, 1),
    "nothing": ("", 1),
    "only comments": ("\n# nothing\n\n", 1),
    "a binary": (b"\x7fELF\x02\x01\x01\x00\x00\xff\xfe", 1),
    "a zero byte": (SAVE + "\0", 7),
    "Latin-1": (SAVE.encode() + b'-A OUTPUT -m comment --comment "caf\xe9" -j ACCEPT\nCOMMIT\n', 7),
    "UTF-16": (SAVE.encode("utf-16"), 1),
    "a circle in a save": (SAVE_LOOP, 11),
    "a circle in a listing": (NFT_LOOP, 14),
    "both families in one table": (SAVE + "-A OUTPUT -d 192.0.2.1 -j ACCEPT\n-A OUTPUT -d 2001:db8::1 -j ACCEPT\nCOMMIT\n", 8),
    "an open chain": (NFT + "\t\tjump nowhere\n\t}\n}\n", 8),
    "prose": ("The quick brown fox\njumps\n", 1),
    "a long line": ("x" * 10_000_000, 1),
    "braces": ("table inet t " + "{" * 10_000, 1),
    "braces in a rule": (NFT + "\t\tip daddr " + "{ " * 10_000, 5),
    "brackets": ("[" * 10_000, 1),
    "objects in objects": ('{"a":' * 100_000, 1),
    "a hundred thousand lines of nothing in a save": (SAVE + "blah blah\n" * 100_000 + "COMMIT\n", 7),
}


def run(path, *options: str):
    result = CliRunner().invoke(root, ["audit", "--json", "--tunnel", "wg0", *options, str(path)])
    # What is raised beside the exits of the command line would be a traceback.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found_with_its_place(tmp_path, name):
    """The first error has the line that a reader would name, and the exit is no success."""
    text, line = BROKEN[name]
    path = tmp_path / "rules"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    result = run(path)
    errors = [each for each in json.loads(result.stdout)["findings"] if each["severity"] == "error"]

    assert result.exit_code != Exit.OK
    assert line in {each["line"] for each in errors}
    assert all(each["column"] >= 1 for each in errors if each["line"])


@pytest.mark.parametrize(
    "text",
    [
        SAVE + "-A OUTPUT -m strange --level 3 -j ACCEPT\nCOMMIT\n",
        SAVE + "-A OUTPUT -j STRANGE --level 3\nCOMMIT\n",
        NFT + "\t\tstrange 3 accept\n\t}\n}\n",
        NFT + "\t\tmeta mark " + "(" * 10_000 + "1" + ")" * 10_000 + " accept\n\t}\n}\n",
        NFT + "\t\tblah blah\n" * 100_000 + "\t}\n}\n",
    ],
    ids=["a match", "a target", "a statement", "parentheses", "a hundred thousand statements"],
)
def test_what_is_not_understood_proves_nothing(tmp_path, text):
    """It may let anything out, and the answer says that it depends."""
    path = tmp_path / "rules"
    path.write_text(text)

    result = run(path)
    found = {(each["property"], each["family"]): each["answer"] for each in json.loads(result.stdout)["properties"]}

    assert result.exit_code != Exit.OK
    assert found["new-flow", 4] == "possible"


@pytest.mark.parametrize("text", [pytest.param(SAVE, marks=thorough, id="save"), pytest.param(NFT, id="nft")])
def test_a_rule_of_ten_million_characters_is_not_repeated_in_full(tmp_path, text):
    """It is read; what is said of it stays short."""
    end = "COMMIT\n" if text is SAVE else "\t}\n}\n"
    rule = {SAVE: '-A OUTPUT -m comment --comment "{}" -j ACCEPT\n', NFT: '\t\taccept comment "{}"\n'}[text]
    path = tmp_path / "rules"
    path.write_text(text + rule.format("x" * 10_000_000) + end)

    result = run(path)

    assert result.exit_code == Exit.LEAK
    assert len(result.stdout) < 1_000_000


@pytest.mark.parametrize("text", [JSON[:40], "[1, 2]", "table inet ks {\n\tchain out {\n\t\ttype filter hook"])
def test_of_what_nothing_could_be_read_nothing_is_said(tmp_path, text):
    """Not even that it refuses nothing: there are no rules that an answer could be about."""
    path = tmp_path / "rules"
    path.write_text(text)

    done = CliRunner().invoke(root, ["audit", str(path)])

    assert done.exit_code == Exit.USAGE
    assert "LEAK" not in done.output


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_text_of_windows_is_called_so(tmp_path, order):
    """As PowerShell writes it."""
    path = tmp_path / "rules"
    path.write_bytes(("\ufeff" + SAVE).encode(order))

    assert "it is text in UTF-16" in run(path).stdout


def test_what_is_too_large_for_a_ruleset_is_refused(tmp_path):
    """Such a file is not read to its end."""
    path = tmp_path / "rules"
    with path.open("wb") as file:
        file.truncate(MOST + 1)

    result = run(path)

    assert result.exit_code == Exit.USAGE
    assert "MiB" in result.output


def test_a_directory_is_no_file(tmp_path):
    """It is a mistake of the command line."""
    assert run(tmp_path).exit_code == Exit.USAGE


def test_a_pipe_with_a_name_is_read_to_its_end(tmp_path):
    """As a shell's `<(iptables-save)` is."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(SAVE + "COMMIT\n",), daemon=True)
    writer.start()

    result = run(path)
    writer.join(10)

    assert json.loads(result.stdout)["findings"] == []


def test_two_saves_in_one_file_are_read_as_both(tmp_path):
    """What is open in the second is not lost behind the first."""
    six = f"# Generated by ip6tables-save v1.8.9 (nf_tables)\n{SAVE}COMMIT\n"
    four = six.replace("ip6tables", "iptables")
    path = tmp_path / "rules"
    path.write_text(four + six)
    assert run(path).exit_code == Exit.OK

    path.write_text(four + six.replace("OUTPUT DROP", "OUTPUT ACCEPT"))

    assert run(path).exit_code == Exit.LEAK


@pytest.mark.parametrize("text", [b"", b"\x7fELF\x02\x00", b"Dear user,\n", b"*filter\n\xff\n"])
def test_what_can_not_be_read_at_all_is_judged_by_nobody(tmp_path, text):
    """Nothing is called a leak, nothing proved: usage, with the place."""
    path = tmp_path / "rules"
    path.write_bytes(text)

    result = run(path)
    said = json.loads(result.stdout)

    assert result.exit_code == Exit.USAGE
    assert [each["file"] for each in said["findings"]] == [str(path)]
    assert "properties" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: nft is asked in a network namespace of its own")
def test_what_nft_can_not_read_is_said_though_we_can(tmp_path):
    """Versions of nft differ in what they take: rules that do not load hold nothing."""
    rules = tmp_path / "rules.nft"
    for end in ("}", ";\n\t}"):
        chain = f'chain o {{ type filter hook output priority 0; policy drop; oifname "wg0" accept {end}'
        rules.write_text(f"table inet f {{ {chain}\n}}\n")
        asked = subprocess.run(["unshare", "--net", "nft", "-c", "-f", str(rules)], capture_output=True, check=False)
        assert ("this machine's nft does not load it" in run(rules).output) is bool(asked.returncode)
    assert not asked.returncode, "the control"
