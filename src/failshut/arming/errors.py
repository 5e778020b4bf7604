"""How arming fails: always with what was done about it."""

from __future__ import annotations

from failshut.host.filter.nft import NftError


class ArmingError(Exception):
    """Arming, disarming or asking failed. `help` is the remedy; `permission` says that it was only the lack of privilege."""

    def __init__(self, message: str, *, help: str = "", permission: bool = False) -> None:  # noqa: A002 - the finding's word
        super().__init__(message)
        self.help = help
        self.permission = permission


class LeakError(ArmingError):
    """What would be armed lets out a packet that the policy does not allow."""


class NotPutBackError(ArmingError):
    """Arming failed, and what the kernel held before could not be brought back: it holds the lock that was to be armed."""


class UndecidedError(ArmingError):
    """Whether what would be armed leaks can't be decided."""


# What takes sets that the kernel empties, or the monitor: what is said of it, and the remedy, where iptables holds the lock.
NOT_BY_IPTABLES, USE_NFTABLES = "iptables, by which the lock was armed, can't do that", 'write [backend] use = "nftables"'


def from_nft(error: NftError, doing: str) -> ArmingError:
    """Say what nft's refusal means to the user."""
    if error.missing:
        return ArmingError(f"{doing}: nft is not installed", help="install the package nftables")
    if error.permission:
        return ArmingError(f"{doing}: the kernel refused for lack of privilege", help="run it with sudo", permission=True)
    return ArmingError(f"{doing}: {error}")
