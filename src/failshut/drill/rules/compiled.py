"""The lock to rehearse, as the backend that is asked for loads it."""

from __future__ import annotations

from typing import assert_never

from failshut.drill.choices import Backend
from failshut.drill.rules.source import InlineLock, IptablesLock, Lock, NftLock
from failshut.emit.inline import inline_lines
from failshut.emit.nft import emit
from failshut.lower import lower
from failshut.lower.inline import lower_inline
from failshut.lower.iptables import lower_iptables
from failshut.lower.iptables.shut import everything
from failshut.model.backend import BackendName
from failshut.model.host import HostFacts
from failshut.model.inline import Tool
from failshut.model.iptables import Kind
from failshut.model.policy import Policy

_KINDS = {Backend.IPTABLES: Kind.DEFAULT, Backend.IPTABLES_NFT: Kind.NFT, Backend.IPTABLES_LEGACY: Kind.LEGACY}
_OF_POLICY = {BackendName.NFTABLES: Backend.NFTABLES, BackendName.IPTABLES: Backend.IPTABLES}


def compiled(policy: Policy, facts: HostFacts, backend: Backend | None = None) -> Lock:
    """Return the lock of a policy by a backend: its own, unless another is asked for."""
    chosen = backend or _OF_POLICY[policy.backend]
    match chosen:
        case Backend.NFTABLES:
            return NftLock(emit(lower(policy, facts)))
        case Backend.IPTABLES | Backend.IPTABLES_NFT | Backend.IPTABLES_LEGACY:
            return IptablesLock(lower_iptables(policy, facts), _KINDS[chosen])
        case Backend.INLINE_NFT:
            return InlineLock(inline_lines(lower_inline(policy, facts, Tool.NFT), Tool.NFT))
        case Backend.INLINE_IPTABLES:
            return InlineLock(inline_lines(lower_inline(policy, facts, Tool.IPTABLES), Tool.IPTABLES, everything()))
        case _:
            assert_never(chosen)
