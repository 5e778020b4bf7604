"""The emitter refuses what nft's text can't say; it never drops or bends it."""

from __future__ import annotations

import pytest

from failshut.emit.nft import UnsupportedError, emit, rule_text
from failshut.emit.wgquick import with_fwmark, without_fwmark
from failshut.model.ruleset import Chain, Family, Match, Meta, Rule, Ruleset, Table, Unknown, Verdict
from failshut.model.units import Mark


@pytest.mark.parametrize("name", ["fwd", "log", "mark", "meta", "1st", "a b", "a;b", ""])
def test_a_chain_name_that_nft_rejects_is_an_error(name):
    """nft rejects its own words and leading digits as chain names (measured with 1.0.6)."""
    with pytest.raises(UnsupportedError):
        emit(Ruleset((Table(Family.INET, "failshut", (Chain(name),)),)))


@pytest.mark.parametrize("text", ['a"b', "a\nb", "a\\b", "x" * 129])
def test_a_comment_that_would_end_its_quotes_is_an_error(text):
    """nft has no escape inside quotes: such a comment could say anything."""
    with pytest.raises(UnsupportedError):
        rule_text(Rule((Verdict.DROP,), text))


def test_an_interface_name_can_not_break_out_of_its_quotes():
    """A name read from elsewhere is quoted or refused."""
    with pytest.raises(UnsupportedError):
        rule_text(Rule((Match(Meta("oifname"), 'a" accept #'),)))


def test_what_was_not_understood_is_never_written():
    """A rule that was read with something unknown in it can't be loaded again."""
    with pytest.raises(UnsupportedError):
        rule_text(Rule((Unknown('{"xt": null}'), Verdict.DROP)))


@pytest.mark.parametrize(
    "config",
    [
        "[Interface]\nPrivateKey = x\n",
        "# top\r\n[interface]\r\nAddress = 10.0.0.1/32\r\n[Peer]\r\n",
        "[Interface]",
        "\n\n [Interface] # mine\nAddress=1.2.3.4\n",
    ],
)
def test_our_mark_comes_and_goes_and_leaves_every_byte(config):
    """Adding and removing the tagged line gives the file back; adding twice adds once."""
    mark = Mark(0xCA6C)

    marked = with_fwmark(config, mark)

    assert "FwMark = 0x0000ca6c" in marked
    assert with_fwmark(marked, mark) == marked
    assert without_fwmark(marked).rstrip("\n") == config.rstrip("\n")
    assert ("\r\n" in config) == ("\r\n" in marked)


def test_a_users_own_mark_is_left_alone():
    """Only the tagged line is ours."""
    config = "[Interface]\nFwMark = 0x1234\n"

    assert without_fwmark(config) == config
