"""The server's config: wg-quick's own file, with what failshut must remember in comments. Read here, and edited by line. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from failshut.config import values
from failshut.config.formats import wgquick
from failshut.config.mistake import Mistake, shown
from failshut.model.finding import Code, Finding, Place
from failshut.model.policy import Service
from failshut.model.units import InterfaceName, Port
from failshut.server.model import Peer, Server, Settings
from failshut.templates import answers
from failshut.templates.make import render

_SETTING = re.compile(r"[ \t]*#[ \t]*failshut:[ \t]*([a-z-]+)[ \t]*=[ \t]*(.*?)[ \t\r]*")
# The comment by which other exporters know a peer's name too.
_FRIENDLY = re.compile(r"[ \t]*#[ \t]*friendly_name[ \t]*=[ \t]*(.*?)[ \t\r]*")
_SECTION = re.compile(r"[ \t]*\[([a-z]+)\][ \t\r]*(#.*)?", re.IGNORECASE)
_KEY = re.compile(r"[ \t]*([a-z]+)[ \t]*=[ \t]*([^#\r]*?)[ \t\r]*(#.*)?", re.IGNORECASE)


class NotOursError(Exception):
    """The file is a config, but none of failshut's."""


def services(text: str) -> tuple[Service, ...]:
    """Return services such as `tcp/443, udp/60000-61000`."""
    return tuple(values.service(each) for each in answers.words(text))


def ports(text: str) -> tuple[Port, ...]:
    """Return ports such as `22, 2222`, or none of them for `none`."""
    return () if text == "none" else tuple(answers.port(each) for each in answers.words(text))


def yes(text: str) -> bool:
    """Return whether a setting says yes."""
    if text not in ("yes", "no"):
        raise Mistake(Code.CONFIG_BAD_VALUE, f"{shown(text)} is neither yes nor no", "write yes or no")
    return text == "yes"


def versions(text: str) -> tuple[int, ...]:
    """Return the IP versions of `ipv4, ipv6`, or none of them for `no`."""
    # What init wrote when it asked only whether IPv4 was forwarded.
    if text in ("yes", "no"):
        return (4,) if text == "yes" else ()
    said = answers.words(text)
    for each in said:
        if each not in ("ipv4", "ipv6"):
            raise Mistake(Code.CONFIG_BAD_VALUE, f"{shown(each)} is neither ipv4 nor ipv6", "write ipv4, ipv6, or both")
    return tuple(version for version in (4, 6) if f"ipv{version}" in said)


# A setting's word in the file: the field it is, and how it is read.
READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "endpoint": ("endpoint", answers.endpoint),
    "dns": ("dns", answers.addresses),
    "ssh": ("ssh", ports),
    "open": ("opened", services),
    "reach": ("reach", answers.prefixes),
    "sites": ("sites", answers.prefixes),
    "serve": ("serve", services),
    "peers-talk": ("talk", yes),
    "internet": ("internet", yes),
    "forward-others": ("others", versions),
}


def read(text: str, path: str, interface: InterfaceName) -> Server | list[Finding]:
    """Read a server's config, or return what is wrong with it, with its lines. Raises `NotOursError`."""
    lines = text.split("\n")
    said = {found[1]: (number, found[2]) for number, line in enumerate(lines, 1) if (found := _SETTING.fullmatch(line))}
    if "endpoint" not in said:
        raise NotOursError(path)
    checked = wgquick.read(text, path)
    if isinstance(checked, list):
        return checked
    wrong: list[Finding] = []
    fields: dict[str, Any] = {}
    for word, (number, value) in said.items():
        try:
            field, reader = READERS[word]
            fields[field] = reader(value)
        except KeyError:
            wrong.append(_finding(path, lines, number, f"there is no setting {shown(word)}", f"there are {', '.join(READERS)}"))
        except Mistake as mistake:
            wrong.append(_finding(path, lines, number, f"{word}: {mistake.message}", mistake.help))
    wrong += _unfit(checked, path, lines)
    if wrong:
        return wrong
    blocks = list(_blocks(lines))
    private = next(_value(lines, block, "privatekey") for block in blocks if block[0] == "interface")
    peers = tuple(
        Peer(_name(lines, block), _value(lines, block, "publickey"), peer.allowed, _value(lines, block, "presharedkey"), peer.line)
        for block, peer in zip((each for each in blocks if each[0] == "peer"), checked.peers, strict=True)
    )
    return Server(interface, checked.addresses, Port(checked.listen_port or 0), private, Settings(**fields), peers)


def _unfit(checked: wgquick.WgQuickConfig, path: str, lines: list[str]) -> Iterator[Finding]:
    """Yield what a server can't do with."""
    if not checked.has_private_key:
        yield _finding(path, lines, 0, "there is no PrivateKey in [Interface]", "put it back, or move the file away")
    if not checked.listen_port:
        yield _finding(path, lines, 0, "there is no ListenPort in [Interface]", "write ListenPort = 51820")
    if not checked.addresses:
        yield _finding(path, lines, 0, "there is no Address in [Interface]", "write Address = 10.86.0.1/24")
    if checked.save:
        yield _finding(path, lines, 0, "SaveConfig = true: wg-quick would write over the peers' names", "remove that line")


def _finding(path: str, lines: list[str], number: int, message: str, remedy: str) -> Finding:
    source = lines[number - 1] if number else ""
    return Finding(
        Code.CONFIG_BAD_VALUE, message, Place(path, number, 1 if number else 0, max(len(source), 1)), remedy, source=source
    )


Block = tuple[str, int, int]


def _blocks(lines: list[str]) -> Iterator[Block]:
    """Yield each section's kind, the index of its heading, and of the line behind its last one."""
    heads = [(found[1].lower(), index) for index, line in enumerate(lines) if (found := _SECTION.fullmatch(line))]
    for (kind, begin), end in zip(heads, [index for _, index in heads[1:]] + [len(lines)], strict=True):
        yield kind, begin, end


def _value(lines: list[str], block: Block, key: str) -> str:
    found = [each for each in map(_KEY.fullmatch, lines[block[1] + 1 : block[2]]) if each and each[1].lower() == key]
    return found[-1][2].replace(" ", "") if found else ""


def _name(lines: list[str], block: Block) -> str:
    """Return the name in a peer's own comment; one that can't be a name is none."""
    for line in lines[block[1] + 1 : block[2]]:
        if found := _FRIENDLY.fullmatch(line):
            try:
                return answers.name(found[1])
            except Mistake:
                return ""
    return ""


def names(text: str) -> dict[str, str]:
    """Return the names that a config's comments give its peers, by their public keys; of any wg-quick config."""
    lines = text.split("\n")
    peers = (block for block in _blocks(lines) if block[0] == "peer")
    return {_value(lines, block, "publickey"): name for block in peers if (name := _name(lines, block))}


def fresh(server: Server, public: str) -> str:
    """Return the text of a new server's config."""
    keys = {"private": server.private, "public": public}
    given = {"endpoint": server.settings.endpoint, "addresses": server.addresses, "peers": (), "server": keys}
    text = render("_shared/server.conf.j2", settings={"endpoint": server.settings.endpoint}, **given)
    return with_settings(with_port(text, server.port), server.settings)


def words(settings: Settings) -> dict[str, str]:
    """Return what the file says of the settings, in order; what is as it is without being said is left out."""
    said = {
        "endpoint": str(settings.endpoint),
        "dns": ", ".join(map(str, settings.dns)),
        "ssh": "" if settings.ssh is None else ", ".join(str(int(each)) for each in settings.ssh) or "none",
        "open": ", ".join(map(str, settings.opened)),
        "reach": ", ".join(map(str, settings.reach)),
        "sites": ", ".join(map(str, settings.sites)),
        "serve": ", ".join(map(str, settings.serve)),
        "peers-talk": "yes" if settings.talk else "",
        "internet": "" if settings.internet else "no",
        "forward-others": ", ".join(f"ipv{each}" for each in settings.others),
    }
    return {word: text for word, text in said.items() if text}


def with_settings(text: str, settings: Settings) -> str:
    """Return the config with these settings; every other line stays where it is."""
    lines = text.split("\n")
    kept = [line for line in lines if not _SETTING.fullmatch(line)]
    at = next(begin for kind, begin, _ in _blocks(kept) if kind == "interface")
    said = [f"# failshut: {word} = {value}" for word, value in words(settings).items()]
    return "\n".join([*kept[: at + 1], *said, *kept[at + 1 :]])


def with_port(text: str, port: Port) -> str:
    """Return the config with another port."""
    return re.sub(r"(?im)^([ \t]*ListenPort[ \t]*=[ \t]*)\d+", rf"\g<1>{int(port)}", text, count=1)


def with_peer(text: str, name: str, pair: Any, server: Server, number: int) -> str:
    """Return the config with one more peer, at its end. `pair` are its `Keys`."""
    peer = {"name": name, "pair": pair, "addresses": server.addresses_of(number)}
    return text.rstrip("\n") + "\n\n" + render("_shared/peer.conf.j2", peer=peer)


def without_peer(text: str, peer: Peer) -> str:
    """Return the config without a peer: its section goes, and the comments that stand behind it, before the next, stay."""
    lines = text.split("\n")
    begin, end = next((begin, end) for _, begin, end in _blocks(lines) if begin == peer.line - 1)
    while end > begin and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    head, tail = lines[:begin], lines[end:]
    if head and not head[-1].strip() and tail and not tail[0].strip():
        head.pop()
    return "\n".join([*head, *tail]).rstrip("\n") + "\n"


def client(name: str, pair: Any, server: Server, public: str, number: int) -> str:
    """Return a peer's own config, for wg-quick or a telephone; everything goes through the tunnel, or what the server leads to."""
    settings = server.settings
    everything = ("0.0.0.0/0", "::/0") if settings.internet else (*server.networks, *settings.reach)
    each = {"name": name, "pair": pair, "addresses": server.addresses_of(number)}
    given = {"endpoint": settings.endpoint, "dns": settings.dns, "allowed": everything, "server": {"public": public}}
    return render("_shared/client.conf.j2", each=each, **given)
