"""What every adapter keeps, whatever its CA: one suite over all of `ADAPTERS`."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from issuers import ADAPTERS, open_issuer
from issuers.base import Capability, Issued, IssueRequest, Pending, Recovery, Unsettled
from issuers.errors import IssuerError, Misconfigured, NotSupported
from issuers.returned import Checked, Expectation, check_returned
from tests.issuers.rigs import ACCOUNT, DEVICE, RIGS, Rig, make_request
from tests.pki import make_name


@pytest.fixture(params=sorted(ADAPTERS))
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with RIGS[request.param]() as opened:
        yield opened


async def settled(rig: Rig, answer: Issued | Pending | Unsettled | None) -> Issued:
    for _ in range(20):
        if not isinstance(answer, Pending):
            break
        assert answer.retry_after >= 0
        answer = await rig.issuer.collect(answer.reference)
    assert isinstance(answer, Issued)
    return answer


def checked(rig: Rig, request: IssueRequest, issued: Issued) -> Checked:
    return check_returned(
        issued,
        Expectation(
            csr=request.csr,
            endpoint=request.endpoint,
            now=rig.now,
            minimum_validity=timedelta(days=1),
            anchors=rig.anchors,
            account_id=request.account_id,
        ),
    )


def test_every_adapter_has_a_rig() -> None:
    assert set(RIGS) == set(ADAPTERS)


async def test_what_it_issues_passes_every_check(rig: Rig) -> None:
    request = make_request()
    issued = await settled(rig, await rig.issuer.issue(request))
    result = checked(rig, request, issued)
    assert result.leaf == issued.leaf == issued.chain[0]
    assert issued.reference


async def test_the_names_a_device_needs_survive(rig: Rig) -> None:
    issued = await settled(rig, await rig.issuer.issue(make_request("urn:dev:os:0001")))
    values = {attribute.oid: attribute.value for attribute in issued.leaf.subject}
    assert values[NameOID.COMMON_NAME] == "urn:dev:os:0001"
    assert values[NameOID.ORGANIZATIONAL_UNIT_NAME] == ACCOUNT.hex
    assert values[NameOID.LOCALITY_NAME] == DEVICE


async def test_its_chain_has_no_root(rig: Rig) -> None:
    issued = await settled(rig, await rig.issuer.issue(make_request()))
    assert all(certificate.subject != certificate.issuer for certificate in issued.chain)


async def test_two_wishes_get_two_certificates(rig: Rig) -> None:
    first = await settled(rig, await rig.issuer.issue(make_request("one")))
    second = await settled(rig, await rig.issuer.issue(make_request("two")))
    assert first.leaf.serial_number != second.leaf.serial_number
    assert first.reference != second.reference
    assert first.leaf.public_key() != second.leaf.public_key()


async def test_a_lost_answer_is_settled_as_declared(rig: Rig) -> None:
    request = make_request()
    issued = await settled(rig, await rig.issuer.issue(request))
    if rig.issuer.recovery is Recovery.NONE:
        with pytest.raises(NotSupported):
            await rig.issuer.recover(request, timedelta())
        return
    recovered = await settled(rig, await rig.issuer.recover(request, timedelta()))
    assert recovered == issued


async def test_ca_certificates_lead_from_the_signer_of_the_leaf_to_an_anchor(rig: Rig) -> None:
    if Capability.CHAIN not in rig.issuer.capabilities:
        with pytest.raises(NotSupported):
            await rig.issuer.ca_certificates()
        return
    certificates = await rig.issuer.ca_certificates()
    issued = await settled(rig, await rig.issuer.issue(make_request()))
    for child, issuer in zip((issued.leaf, *certificates), certificates, strict=False):
        child.verify_directly_issued_by(issuer)
    assert certificates[-1] in rig.anchors


async def test_it_revokes_or_says_that_it_cannot(rig: Rig) -> None:
    issued = await settled(rig, await rig.issuer.issue(make_request()))
    revocation = rig.issuer.revoke(issued.leaf.serial_number, x509.ReasonFlags.superseded, rig.now)
    if Capability.REVOKE in rig.issuer.capabilities:
        await revocation
    else:
        with pytest.raises(NotSupported):
            await revocation


async def test_it_tells_its_quota_or_says_that_it_cannot(rig: Rig) -> None:
    if Capability.QUOTA not in rig.issuer.capabilities:
        with pytest.raises(NotSupported):
            await rig.issuer.certificates_left()
        return
    left = await rig.issuer.certificates_left()
    assert left is None or left > 0


async def test_it_collects_or_says_that_it_cannot(rig: Rig) -> None:
    if Capability.COLLECT not in rig.issuer.capabilities:
        with pytest.raises(NotSupported):
            await rig.issuer.collect("anything")
        return
    with pytest.raises(IssuerError):
        await rig.issuer.collect("nothing has this reference")


async def test_a_check_without_a_test_certificate_issues_nothing(rig: Rig) -> None:
    report = await rig.issuer.check(None, rig.now)
    assert report.successful, report.message
    assert report.issued is None
    assert report.steps


async def test_a_check_hands_its_test_certificate_over(rig: Rig) -> None:
    request = make_request("verify", purpose="verify")
    report = await rig.issuer.check(request, rig.now)
    assert report.successful, report.message
    checked(rig, request, await settled(rig, report.issued))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
async def test_a_csr_of_any_kind_raises_nothing_but_issuer_errors(rig: Rig, curve: ec.EllipticCurve) -> None:
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(make_name("somebody else", organization_name="Ελληνικά"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ec.generate_private_key(curve), hashes.SHA256())
    )
    with pytest.raises(IssuerError) as raised:
        checked(rig, request := replace(make_request(), csr=csr), await settled(rig, await rig.issuer.issue(request)))
    assert raised.value.message


async def test_secrets_never_show(rig: Rig) -> None:
    report = await rig.issuer.check(None, rig.now)
    shown = repr(rig.issuer) + repr(vars(rig.issuer)) + repr(report)
    assert rig.secrets
    assert not any(secret in shown for secret in rig.secrets)


@pytest.mark.parametrize("kind", sorted(ADAPTERS))
def test_an_attribute_nobody_knows_is_named_at_the_door(kind: str) -> None:
    with pytest.raises(Misconfigured, match="'no_such_attribute'; did you mean"):
        open_issuer(kind, "typo", {"no_such_attribute": 1}, {})


def test_a_type_nobody_knows_is_named_with_the_nearest_one() -> None:
    with pytest.raises(Misconfigured, match="'EMBEDED'; did you mean 'EMBEDDED'"):
        open_issuer("EMBEDED", "typo", {}, {})
