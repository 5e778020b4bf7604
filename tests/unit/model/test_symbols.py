"""What the model knows of nft's fields is what nft itself says of them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from failshut.model.ruleset import Ct, Exthdr, Meta, Payload
from failshut.model.symbols import CONNECTION, EXTENSIONS, META, PAYLOADS, WORDS, describe, number_of, word_of
from failshut.read.names import PROTOCOLS

FIELDS = {
    **{f"{name} {field}": Payload(name, field) for name, fields in PAYLOADS.items() for field in fields},
    **{f"{name} {field}": Exthdr(name, field) for name, fields in EXTENSIONS.items() for field in fields},
    **{f"meta {key}": Meta(key) for key in META},
    # nft describes these only with a family that the command can't give.
    **{f"ct {key}": Ct(key) for key in CONNECTION if not key.startswith(("proto-", "ip"))},
}
# Of a type alone nft does not know the order of its bytes: it is asked of a field that has it.
ASKED = {
    **{describe(expression)[0]: field for field, expression in FIELDS.items()},
    "boolean": "boolean",
    "fib_addrtype": "fib daddr type",
    "icmpx_code": "icmpx_code",
}
SAID = re.compile(r"^\w+ expression, datatype (\w+) .*?, (\d+) (bits|characters)$")


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed: it can't be asked what it knows")
def test_every_field_has_the_type_and_the_width_that_nft_gives_it():
    """A wrong width would make arithmetic on marks or flags prove the wrong thing."""
    text = "".join(f"describe {field}\n" for field in FIELDS)
    answer = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=True).stdout
    said = [found for line in answer.splitlines() if (found := SAID.match(line))]

    assert len(said) == len(FIELDS)
    for (field, expression), found in zip(FIELDS.items(), said, strict=True):
        width = 0 if found[3] == "characters" else int(found[2])
        assert (field, *describe(expression)) == (field, found[1], width)


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed: it can't be asked what it knows")
@pytest.mark.parametrize("type_", sorted(WORDS.keys() - {"inet_proto"}))
def test_every_word_stands_for_nft_s_number(type_):
    """All of them, and no others."""
    answer = subprocess.run(["nft", "describe", *ASKED[type_].split()], capture_output=True, text=True, check=True).stdout
    said = {word: int(number, 0) for word, number in re.findall(r"^\t(\S+)\s+(0x[0-9a-f]+|\d+)$", answer, re.MULTILINE)}

    assert dict(WORDS[type_]) == said


def test_the_first_of_several_words_is_listed():
    """nft lists 132 as `mld-listener-done`, and takes another word for it too."""
    assert word_of(132, "icmpv6_type") == "mld-listener-done"
    assert number_of("mld-listener-reduction", "icmpv6_type") == 132
    assert word_of(47, "inet_proto") == 47
    assert all(PROTOCOLS[word] == number for word, number in WORDS["inet_proto"].items())
