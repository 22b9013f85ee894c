"""How tests of CFSSL_AUTH open an issuer, over TLS too, and how it fails."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509

from issuers import open_issuer
from issuers.base import Issuer, IssueRequest
from issuers.errors import IssuerError
from tests.issuers.peers.cfssl import PAGE_KEY
from tests.issuers.rigs import LOOPBACK, make_request
from tests.pki import Holder, make_device_certificate, make_server_certificate

OTHER_KEY = "ffffffffffffffffffffffffffffffff"
CA_OPTIONS = {"cfssl_profile": "CA"}
KEY = {"hmac_hex_key": PAGE_KEY}


@asynccontextmanager
async def opened(
    url: str, attributes: Mapping[str, object] = CA_OPTIONS, credentials: Mapping[str, object] = KEY
) -> AsyncIterator[Issuer]:
    """The adapter as registered with this address."""
    issuer = open_issuer("CFSSL_AUTH", "theirs", {"host_url": url, **attributes}, credentials, LOOPBACK)
    try:
        yield issuer
    finally:
        await issuer.aclose()


async def failure(issuer: Issuer, request: IssueRequest | None = None) -> IssuerError:
    """The error of a request that fails."""
    with pytest.raises(IssuerError) as raised:
        await issuer.issue(request or make_request())
    return raised.value


def server_of(tls_ca: Holder) -> Holder:
    """A server's certificate for this machine."""
    return make_server_certificate(tls_ca, x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost"))


def trusting(root: Holder) -> dict[str, object]:
    """Attributes of a CA whose TLS certificate is known by this root."""
    return {"cfssl_profile": "CA", "tls_roots": root.pem.decode()}


def client_of(tls_ca: Holder, name: str = "firstlight", **others: Any) -> dict[str, object]:
    """Credentials with a TLS certificate of our own."""
    client = make_device_certificate(tls_ca, name, **others)
    return {**KEY, "client_certificate": client.pem.decode(), "private_key": client.key_pem.decode()}
