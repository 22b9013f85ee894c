"""What is said against a CA before devices depend on it for a service (server/standing.py)."""

from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

import pytest
from cryptography import x509

from server.standing import CA_ENDS_WITHIN, TRUST, Standing
from server.store.accounts import LWM2M
from server.store.issuers import IssuerRow
from server.store.verifications import Step, Verification
from tests.pki import make_factory_ca

AT = datetime(2026, 11, 29, tzinfo=UTC)
DLMS = "customer.dlms"


def standing(*failed: str, trusted: bool | None = True, chain: tuple[x509.Certificate, ...] = ()) -> Standing:
    """A CA whose last verification failed in these steps; none = it was good."""
    verification = Verification(
        id=UUID(int=1),
        issuer_id=UUID(int=2),
        started_at=AT,
        finished_at=AT,
        actor_name="an operator",
        issue_test=False,
        serial=None,
        successful=not failed,
        message="it says so",
        steps=(Step("connect", "ok", ""), *(Step(name, "fail", "no") for name in failed)),
    )
    # Nothing here depends on its settings.
    row = cast(IssuerRow, None)
    return Standing(row=row, readiness=None, verification=verification, chain=chain, trusted=trusted, at=AT)


@pytest.mark.parametrize(
    ("ca", "services", "refused", "failed"),
    [
        (standing(), (LWM2M,), False, False),
        (standing("sign"), (LWM2M,), False, True),
        (standing("sign"), (DLMS,), False, True),
        # That it is refused is all there is to say.
        (standing(TRUST, trusted=False), (LWM2M,), True, False),
        (standing(TRUST, trusted=False), (LWM2M, DLMS), True, False),
        (standing(TRUST, "sign", trusted=False), (LWM2M,), True, True),
        # A custom service needs no trusted certificate.
        (standing(TRUST, trusted=False), (DLMS,), False, False),
        (standing(TRUST, "sign", trusted=False), (DLMS,), False, True),
        # It was trusted since, or never showed its certificate: the verification is to be run again.
        (standing(TRUST), (LWM2M,), False, True),
        (standing(TRUST, trusted=None), (LWM2M,), False, True),
    ],
)
def test_what_a_failed_verification_says_depends_on_the_services(
    ca: Standing, services: tuple[str, ...], refused: bool, failed: bool
) -> None:
    assert ca.is_refused_for(*services) is refused
    assert ca.failed_for(*services) is (ca.verification if failed else None)


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (AT - timedelta(days=1), "Its CA certificate ended on 2026-11-28"),
        (AT + CA_ENDS_WITHIN, "Its CA certificate ends on 2027-02-27"),
        (AT + CA_ENDS_WITHIN + timedelta(days=1), ""),
    ],
)
def test_a_ca_that_ends_before_what_it_would_sign_is_doubted(ends: datetime, words: str) -> None:
    """The certificate of its chain that ends first counts, whichever it is."""
    root = make_factory_ca("Root")
    issuing = make_factory_ca("Issuing", issuer=root, not_before=AT - timedelta(days=900), not_after=ends)
    ca = standing(chain=(issuing.certificate, root.certificate))
    assert [doubt.kind for doubt in ca.doubts()] == (["issuer_ends"] if words else [])
    assert all(doubt.what.startswith(words) for doubt in ca.doubts())
