"""What the modules of one CA share: the stand-in for Atlas HVCA and an issuer that speaks to it; the keys of CFSSL."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from issuers import failures, http, pinned
from issuers.base import Issuer
from tests.issuers.hvca import opened
from tests.issuers.peers.atlas import AtlasPeer, running_atlas
from tests.pki import Holder, make_factory_ca


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


@pytest.fixture
def short_of_hearing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever breaks off is not heard for long: most peers have no reason to give."""
    monkeypatch.setattr(pinned, "REASON_SECONDS", 0.3)


@pytest.fixture
def ca() -> Holder:
    """The CA that a CFSSL signs with."""
    return make_factory_ca("CFSSL Root")


@pytest.fixture
def tls_ca() -> Holder:
    """The CA of the TLS certificates before it."""
    return make_factory_ca("TLS Root")
