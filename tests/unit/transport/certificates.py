"""Certificates at a fixed time as the transport tests need them, good and bad, and the anchors above them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from cryptography import x509

from server.trust import Anchor, TrustIndex
from tests.pki import Digest, Extensions, Holder, make_certificate, make_key

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACCOUNT = UUID(int=1)


def make(
    common_name: str,
    issuer: Holder | None = None,
    *,
    key: Any = None,
    ca: bool | None = None,
    path_length: int | None = None,
    not_before: datetime = NOW - HOUR,
    not_after: datetime = NOW + 1000 * HOUR,
    digest: Digest | None = None,
    extensions: Extensions = (),
    key_ids: bool = False,
) -> Holder:
    """A certificate of `issuer`, self-signed without one; `ca=None` leaves basicConstraints out."""
    key = key or make_key()
    signer = issuer.key if issuer else key
    own: list[tuple[x509.ExtensionType, bool]] = []
    if ca is not None:
        own.append((x509.BasicConstraints(ca, path_length), True))
    if key_ids:
        own.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
        own.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False))
    return make_certificate(
        common_name,
        issuer,
        key=key,
        not_before=not_before,
        not_after=not_after,
        digest=digest,
        extensions=[*own, *extensions],
    )


def anchor(made: Holder, *, account: UUID = ACCOUNT, active: bool = True, service: Any = "bootstrap") -> Anchor:
    return Anchor(id=uuid4(), account_id=account, service=service, certificate=made.der, active=active)


class Pki:
    """A factory with root, intermediate and one device; a server's own certificate."""

    def __init__(self) -> None:
        self.root = make("Factory Root", ca=True)
        self.intermediate = make("Factory Line 1", self.root, ca=True, path_length=0)
        self.device = make("dev-1", self.intermediate, ca=False)
        self.stranger = make("dev-1", make("Elsewhere", ca=True), ca=False)
        self.server = make("bootstrap.example.com")
        self.index = TrustIndex([anchor(self.root)])

    @property
    def path(self) -> tuple[Holder, ...]:
        return (self.device, self.intermediate, self.root)
