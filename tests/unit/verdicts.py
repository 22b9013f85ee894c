"""Devices of a factory before trust, and what its verdict on them says."""

from typing import Any
from uuid import UUID

from server.trust import Anchor, RefusalReason, Refused, Trusted, TrustIndex
from tests.pki import Holder
from tests.unit.transport.certificates import NOW, make

A, B = UUID(int=0xA), UUID(int=0xB)

ROOT = make("Root", ca=True)
LINE = make("Line", ROOT, ca=True)
DEVICE = make("dev-1", LINE, ca=False)


def judge(
    anchors: list[Anchor] | Anchor, *chain: Holder, now: Any = NOW, index: TrustIndex | None = None
) -> Trusted | Refused:
    """The verdict on a chain, by these anchors."""
    index = index or TrustIndex([anchors] if isinstance(anchors, Anchor) else anchors)
    return index.judge([made.der for made in chain], now)


def accounts(verdict: Trusted | Refused) -> list[UUID]:
    """Whose device it is."""
    assert isinstance(verdict, Trusted), verdict
    return [found.account_id for found in verdict.anchors]


def reason(verdict: Trusted | Refused) -> RefusalReason:
    """Why it is refused; the words are there too."""
    assert isinstance(verdict, Refused), verdict
    assert verdict.detail
    return verdict.reason
