"""The tools that can hold the lock, each behind the same few questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from failshut.arming.errors import ArmingError
from failshut.model.backend import BackendName
from failshut.model.host import HostFacts
from failshut.model.plan import FileChange, Plan
from failshut.model.policy import Policy
from failshut.model.ruleset import Ruleset


class Listing(Protocol):
    """What the kernel holds of ours. `texts` are equal as long as nothing has changed."""

    @property
    def tables(self) -> tuple[tuple[str, str], ...]:
        """Return the tables with something of ours: family and name."""

    @property
    def guarded(self) -> bool:
        """Return whether the guard stands behind them."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the rules in the tool's own words."""

    @property
    def json_texts(self) -> tuple[str, ...]:
        """Return the tables with what is in their sets, for whoever counts."""

    def ruleset(self) -> Ruleset:
        """Return the rules as the model has them."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The rules that this kernel takes, the text that was checked, and what the user must know of what is not in them.

    `over` is what the kernel held when the text was made: the text makes the rules of that, and of nothing else.
    """

    wanted: Ruleset
    text: str
    over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    under_ip: bool = True


@dataclass(frozen=True, slots=True)
class WayBack:
    """What a script needs to bring an earlier state back: files by name, and the commands that load them from `directory`."""

    files: Mapping[str, str]
    commands: tuple[str, ...]


class Backend(Protocol):
    """One tool. Each question raises `ArmingError` where the tool or the kernel refuses."""

    name: BackendName

    def listing(self) -> Listing:
        """Return what the kernel holds of ours."""

    def compiled(self, policy: Policy, facts: HostFacts, kernel: Listing) -> Compiled:
        """Compile the policy, and have the kernel check it. Changes nothing."""

    def staged(self, policy: Policy, facts: HostFacts, wanted: Ruleset) -> dict[str, str]:
        """Return the files of a boot, by name."""

    def shared(self, policy: Policy, wanted: Ruleset) -> tuple[FileChange, ...]:
        """Return the user's own files that get our rules among theirs."""

    def read(self, plan: Plan) -> tuple[Ruleset, Ruleset]:
        """Return what will be loaded and what a boot will load, read back from the texts."""

    def load(self, plan: Plan) -> None:
        """Load the plan."""

    def put_back(self, before: Listing) -> None:
        """Bring back what was there before."""

    def way_back(self, wanted: Ruleset, before: Listing, directory: Path) -> WayBack:
        """Return how a script brings `before` back once `wanted` is loaded."""

    def remove(self, listing: Listing) -> None:
        """Take everything of ours out of the kernel."""


def backend(name: str) -> Backend:
    """Return the backend of that name."""
    # Imported here: `status` needs one, and little of it.
    if name == BackendName.IPTABLES:
        from failshut.arming.backends.iptables import Iptables  # noqa: PLC0415

        return Iptables()
    from failshut.arming.backends.nftables import Nftables  # noqa: PLC0415

    return Nftables()


def must_be_the_same(asked: BackendName, armed: str) -> None:
    """Raise `ArmingError` where a lock of the other tool's is on: both at once would be two locks, and one of them nobody's."""
    if asked != armed:
        raise ArmingError(
            f"the lock that is armed is {armed}'s, and the policy says {asked}",
            help="`failshut disarm`, then arm; or change it back",
        )
