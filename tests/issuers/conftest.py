"""What the modules of GlobalSign share: the stand-in for Atlas HVCA, and an issuer that speaks to it."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from issuers import failures, http
from issuers.base import Issuer
from tests.issuers.hvca import opened
from tests.issuers.peers.atlas import AtlasPeer, running_atlas


@pytest.fixture
async def peer() -> AsyncIterator[AtlasPeer]:
    """Atlas on a port of its own; the modules of other CAs have peers of theirs."""
    async with running_atlas() as running:
        yield running


@pytest.fixture
async def issuer(peer: AtlasPeer) -> AsyncIterator[Issuer]:
    """The adapter, opened with an account of this Atlas."""
    async with opened(peer) as issuer:
        yield issuer


@pytest.fixture
def calls(peer: AtlasPeer) -> Counter[str]:
    return peer.atlas.calls


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is given up on after a moment."""
    for module in (http, failures):
        monkeypatch.setattr(module, "READ_SECONDS", 3.0)
