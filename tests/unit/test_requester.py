"""Who may ask for a certificate by EST, for which service, and under which names (requester.py, izuma.py)."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from issuers.csr import make_csr
from lwm2m.bootstrap_request import parse_bootstrap_request
from lwm2m.est import Function, Resource
from server import izuma, policy
from server.errors import CsrRefused, NotAuthenticated, NotAuthorized
from server.operational import OperationalDevice
from server.profile import Profile, parse_profile
from server.requester import Requester, admit, checked_csr, from_factory, from_operational, is_operational, subject_of
from server.store.devices import device_id
from server.transport.engine import PeerIdentity, PreSharedKey
from server.trust import Anchor, Service, Trusted
from tests import pki
from tests.unit.issuers import surgery

ACCOUNT = UUID("0123456789abcdef0123456789abcdef")
CA = pki.make_factory_ca()
DEVICE = pki.make_device_certificate(CA, "device-1")
KEY = ec.generate_private_key(ec.SECP256R1())
# challengePassword
OTHER_ATTRIBUTE = bytes.fromhex("06092a864886f70d010907")
SEN, SREN, SKG = Function.ENROLL, Function.REENROLL, Function.SERVER_KEY


def profile(est: str = "", security: str = "") -> Profile:
    return parse_profile(
        f"""
        [est]
        {est}
        [[security]]
        uri = "coaps://a.example.com:5684"
        short_server_id = 1
        mode = "est"
        server_certificate_file = "ca.pem"
        {security}
        [[servers]]
        short_server_id = 1
        """,
        {"ca.pem": CA.pem},
        name="default",
    )


def peer(service: Service = "bootstrap", holder: pki.Holder = DEVICE, account: UUID = ACCOUNT) -> PeerIdentity:
    anchor = Anchor(id=uuid4(), account_id=account, service=service, certificate=CA.der)
    return PeerIdentity(kind="x509", chain=(holder.der,), trusted=Trusted((holder.der, CA.der), (anchor,)))


PSK = PeerIdentity(
    kind="psk",
    psk_identity=b"identity",
    psk=PreSharedKey(id=uuid4(), account_id=ACCOUNT, identity=b"identity", key=b"k", endpoint="device-1"),
)


def factory(est: str = "", security: str = "", *, came: PeerIdentity | None = None) -> Requester:
    return from_factory(came or peer(), None, lambda _account: (profile(est, security),))


def operational(est: str = "", holder: pki.Holder = DEVICE, service: str = "LWM2M") -> Requester:
    device = OperationalDevice(
        account_id=ACCOUNT, device_id=device_id(ACCOUNT, "device-1"), endpoint="device-1", service=service
    )
    return from_operational(peer("lwm2m", holder), device, lambda _account: (profile(est),))


def csr(*extensions: x509.ExtensionType, **names: str) -> bytes:
    name = pki.make_name(names.pop("cn", "device-1"), **names)
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)

    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def is_taken(
    requester: Requester,
    payload: bytes,
    function: Function = SEN,
    label: str | None = None,
    recorded: Sequence[x509.Certificate] = (),
) -> bool:
    try:
        checked_csr(requester, Resource(function, label), payload, recorded)
    except CsrRefused:
        return False
    return True


# -- who ----------------------------------------


def test_a_bootstrap_counts_as_long_as_its_account_trusts_the_certificate() -> None:
    request, held = parse_bootstrap_request(["ep=device-1"]), peer()
    admitted = policy.admit(peer=held, request=request, profiles_of=lambda _account: (profile(),), asked_for_pack=False)
    assert from_factory(held, admitted, lambda _account: ()).account_id == ACCOUNT
    with pytest.raises(NotAuthorized, match="trusts its certificate no more"):
        from_factory(peer(account=uuid4()), admitted, lambda _account: ())


def test_account_and_name_follow_from_the_credential_alone() -> None:
    requester = factory()
    assert (requester.account_id, requester.endpoint, requester.operational) == (ACCOUNT, "device-1", False)
    assert requester.device_id == device_id(ACCOUNT, "device-1")
    assert factory(came=PSK).certificate is None


def test_or_from_the_bootstrap_request_of_the_association() -> None:
    request = parse_bootstrap_request([f"ep=device-1&aid={ACCOUNT.hex}".split("&")[0], f"aid={ACCOUNT.hex}"])
    admitted = policy.admit(
        peer=peer(), request=request, profiles_of=lambda _account: (profile(),), asked_for_pack=False
    )
    assert from_factory(peer(), admitted, lambda _account: ()).izuma


def test_only_an_anchor_for_lwm2m_makes_a_peer_operational() -> None:
    assert is_operational(peer("lwm2m"))
    assert not is_operational(peer("bootstrap"))
    assert not is_operational(PSK)
    both = replace(peer().trusted or Trusted((), ()), anchors=(*_anchors(peer()), *_anchors(peer("lwm2m"))))
    assert not is_operational(replace(peer(), trusted=both))


def _anchors(came: PeerIdentity) -> tuple[Anchor, ...]:
    return came.trusted.anchors if came.trusted is not None else ()


# -- may they ----------------------------------------


@pytest.mark.parametrize("function", Function, ids=lambda function: function.value)
def test_a_factory_certificate_may_ask_for_everything(function: Function) -> None:
    for label in (None, "DLMS"):
        assert admit(factory(), Resource(function, label)) == Resource(function, label)


@pytest.mark.parametrize("function", Function, ids=lambda function: function.value)
def test_a_pre_shared_key_may_ask_for_nothing_unless_the_profile_says_so(function: Function) -> None:
    with pytest.raises(NotAuthenticated):
        admit(factory(came=PSK), Resource(function))
    allowed = factory("psk_enrolls = true", came=PSK)
    if function is SREN:
        with pytest.raises(NotAuthenticated, match="no certificate"):
            admit(allowed, Resource(function))
    else:
        assert admit(allowed, Resource(function)) == Resource(function)


def test_an_operational_certificate_renews_and_enrols_for_custom_services_only() -> None:
    requester = operational()
    for function in (SEN, SKG, Function.SERVER_KEY_CERTIFICATE):
        with pytest.raises(NotAuthorized):
            admit(requester, Resource(function))
        assert admit(requester, Resource(function, "DLMS")).function is function
    for function in (SREN, Function.CA_CERTIFICATES, Function.CSR_ATTRIBUTES):
        assert admit(requester, Resource(function)).function is function


def test_a_certificate_of_a_custom_service_is_good_for_this_service_alone() -> None:
    requester = operational(service="DLMS")
    for function in (SEN, SREN, SKG, Function.SERVER_KEY_CERTIFICATE):
        for label in (None, "LWM2M", "Wi-SUN"):
            with pytest.raises(NotAuthorized, match="DLMS"):
                admit(requester, Resource(function, label))
        assert admit(requester, Resource(function, "DLMS")).function is function
    # The Izuma client's way to renew is no way round.
    with pytest.raises(NotAuthorized, match="DLMS"):
        admit(requester, Resource(SEN, None, short=True))
    assert admit(requester, Resource(Function.CA_CERTIFICATES)).function is Function.CA_CERTIFICATES


def test_over_an_operational_certificate_est_sen_is_a_re_enrolment() -> None:
    # The Izuma client knows no sren.
    assert admit(operational(), Resource(SEN, None, short=True)) == Resource(SREN, None, short=True)
    assert admit(operational(), Resource(SEN, "DLMS", short=True)) == Resource(SREN, "DLMS", short=True)
    assert admit(operational(), Resource(SEN, "DLMS")).function is SEN
    assert admit(operational(service="DLMS"), Resource(SEN, "DLMS", short=True)).function is SEN
    assert admit(factory(), Resource(SEN, None, short=True)).function is SEN


# -- names ----------------------------------------


def test_the_subject_is_the_profiles_and_empty_attributes_count_as_absent() -> None:
    requester = factory(security='subject = "CN={endpoint},O=ACME"')
    assert is_taken(requester, csr(organization_name="ACME"))
    assert not is_taken(requester, csr())
    assert not is_taken(requester, csr(organization_name="Other"))
    assert not is_taken(requester, csr(organization_name="ACME", locality_name="somewhere"))
    assert not is_taken(requester, csr(cn="device-2", organization_name="ACME"))


def test_a_custom_service_has_its_own_subject() -> None:
    requester = factory(est='subject = "CN={endpoint},OU={account}"')
    assert subject_of(requester, "LWM2M") == pki.make_name("device-1")
    assert is_taken(requester, csr(organizational_unit_name=ACCOUNT.hex), label="DLMS")
    assert not is_taken(requester, csr(), label="DLMS")
    assert is_taken(requester, csr())


def test_the_alternative_name_may_be_the_endpoint_or_nothing() -> None:
    def names(*values: x509.GeneralName) -> x509.SubjectAlternativeName:
        return x509.SubjectAlternativeName(values)

    own = csr(names(x509.DNSName("device-1")))
    assert is_taken(factory(), own)
    assert is_taken(factory(), csr(names(x509.UniformResourceIdentifier("device-1"))))
    assert not is_taken(factory(), csr(names(x509.DNSName("device-2"))))
    assert not is_taken(factory(), csr(names(x509.DNSName("device-1"), x509.DNSName("device-2"))))
    assert not is_taken(factory(est='alternative_name = "none"'), own)


def test_a_renewal_has_the_names_of_the_certificate_it_came_with() -> None:
    san = x509.SubjectAlternativeName([x509.DNSName("device-1.example.com")])
    held = pki.make_device_certificate(CA, "device-1", extensions=[(san, False)])
    requester = operational(holder=held)
    assert is_taken(requester, csr(san), SREN)
    # RFC 7030 4.2.2: identical, so a name left out is another wish too.
    assert not is_taken(requester, csr(), SREN)
    assert not is_taken(requester, csr(san, organization_name="ACME"), SREN)
    assert not is_taken(operational(), csr(san), SREN)
    assert is_taken(operational(), csr(), SREN)


def test_a_renewal_may_have_the_alternative_name_that_the_ca_left_out() -> None:
    own = csr(x509.SubjectAlternativeName([x509.DNSName("device-1")]))
    assert is_taken(operational(), own, SREN)
    assert not is_taken(operational('alternative_name = "none"'), own, SREN)
    recorded = [pki.make_device_certificate(CA, "device-1").certificate]
    assert is_taken(operational(), own, SREN, "DLMS", recorded)
    assert is_taken(factory(), own, SREN, None, recorded)


def test_over_a_factory_certificate_a_renewal_has_the_names_of_the_profile_and_never_the_factorys() -> None:
    factorys = pki.make_certificate(pki.make_name("device-1", organization_name="Evil"), CA)
    requester = factory(security='subject = "CN={endpoint},O=ACME"', came=peer(holder=factorys))
    assert is_taken(requester, csr(organization_name="ACME"), SREN)
    assert not is_taken(requester, csr(organization_name="Evil"), SREN)
    assert not is_taken(requester, csr(), SREN)


def test_a_renewal_may_have_the_names_of_what_the_device_got_for_this_service() -> None:
    got = pki.make_certificate(pki.make_name("device-1", organization_name="Meter"), CA).certificate
    template = 'subject = "CN={endpoint},O=Now"'
    for requester in (factory(template), operational(template)):
        assert is_taken(requester, csr(organization_name="Meter"), SREN, "DLMS", [got])
        assert is_taken(requester, csr(organization_name="Now"), SREN, "DLMS", [got])
        assert is_taken(requester, csr(organization_name="Now"), SREN, "DLMS")
        # Not those of the certificate on the association, which is another service's.
        assert not is_taken(requester, csr(), SREN, "DLMS", [got])
        # What is on record is renewed and not asked for anew.
        assert not is_taken(requester, csr(organization_name="Meter"), SEN, "DLMS", [got])
    of_meter = operational(template, service="DLMS")
    assert is_taken(of_meter, csr(), SREN, "DLMS")
    assert is_taken(of_meter, csr(organization_name="Now"), SREN, "DLMS")
    assert not is_taken(of_meter, csr(organization_name="Meter"), SREN, "DLMS")


def test_for_a_server_made_key_the_csrs_own_key_and_signature_mean_nothing() -> None:
    other_curve = make_csr(ec.generate_private_key(ec.SECP384R1()), pki.make_name("device-1"))
    payload = other_curve.public_bytes(Encoding.DER)
    assert is_taken(factory(), payload, SKG)
    assert not is_taken(factory(), payload)
    assert not is_taken(factory(), csr(cn="device-2"), SKG)


@pytest.mark.parametrize("last_arc", [0x25, 0x36], ids=["decryptKeyID", "asymmDecryptKeyID"])
def test_a_server_made_key_that_is_to_be_encrypted_once_more_is_refused(last_arc: int) -> None:
    identifier = bytes.fromhex("060b2a864886f70d01091002") + bytes([last_arc])
    for wanted, function, taken in ((identifier, SKG, False), (identifier, SEN, True), (OTHER_ATTRIBUTE, SKG, True)):
        attribute = surgery.element(0x30, wanted, surgery.element(0x31, surgery.element(0x04, b"key")))
        public = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        name = pki.make_name("device-1").public_bytes()
        asked = surgery.element(0x30, b"\x02\x01\0", name, public, surgery.element(0xA0, attribute))
        assert is_taken(factory(), surgery.signed(asked, KEY), function) is taken


# -- the Izuma client ----------------------------------------


@pytest.mark.parametrize(
    ("client", "query", "expected"),
    [
        ("auto", None, False),
        ("auto", ["ep=device-1", "mccv=4.13.2"], False),
        ("auto", ["ep=device-1", "aid=x"], True),
        ("auto", ["ep=device-1", "iep=x"], True),
        ("izuma", None, True),
        ("standard", ["ep=device-1", "aid=x", "iep=x"], False),
    ],
)
def test_an_izuma_client_is_known_by_what_it_says_or_by_its_profile(
    client: str, query: list[str] | None, expected: bool
) -> None:
    request = parse_bootstrap_request(query) if query is not None else None
    assert izuma.is_izuma(profile(f'client = "{client}"'), request) is expected


def test_an_izuma_client_names_its_device_id_its_account_and_its_endpoint() -> None:
    requester = factory('client = "izuma"')
    own = {"locality_name": requester.device_id.hex, "organizational_unit_name": ACCOUNT.hex}
    assert is_taken(requester, csr(**own))
    # Builds for standard LwM2M have neither.
    assert is_taken(requester, csr())
    for wrong in ({"locality_name": "0" * 32}, {"organizational_unit_name": "0" * 32}, {"organization_name": "ACME"}):
        assert not is_taken(requester, csr(**{**own, **wrong}))
    assert not is_taken(factory(), csr(**own))
    # DER begins with L, as the client has it.
    first = next(iter(subject_of(requester, "LWM2M")))
    assert first.oid == NameOID.LOCALITY_NAME


def test_an_izuma_client_renews_what_its_certificate_names_and_no_less() -> None:
    """Without L and OU it forgets who it is; a build that never had them goes on without."""
    own = {"locality_name": device_id(ACCOUNT, "device-1").hex, "organizational_unit_name": ACCOUNT.hex}
    whole = pki.make_certificate(pki.make_name("device-1", **own), CA)
    settings = 'client = "izuma"'
    assert is_taken(operational(settings, whole), csr(**own), SREN)
    assert not is_taken(operational(settings, whole), csr(), SREN)
    assert not is_taken(operational(settings, whole), csr(locality_name=own["locality_name"]), SREN)
    assert is_taken(operational(settings), csr(), SREN)
    assert is_taken(operational(settings), csr(**own), SREN)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("coaps://a:5684", f"coaps://a:5684?aid={ACCOUNT.hex}"),
        ("coaps://a:5684?x=y", f"coaps://a:5684?x=y&aid={ACCOUNT.hex}"),
        ("coaps://a:5684?aid=other", "coaps://a:5684?aid=other"),
    ],
)
def test_the_uri_of_its_lwm2m_server_carries_the_account_once(uri: str, expected: str) -> None:
    plan = profile().plan
    (security,) = plan.securities
    fitted = izuma.fitted(replace(plan, securities=(replace(security, uri=uri),)), ACCOUNT)
    assert fitted.securities[0].uri == expected


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("CN={endpoint}", izuma.SUBJECT),
        ("CN={endpoint},O=Plant", izuma.SUBJECT),
        ("CN={endpoint},O=Plant,L={device}", "CN={endpoint},O=Plant,L={device}"),
    ],
)
def test_a_certificate_that_it_is_written_names_its_device_id_as_it_stores_none_without(
    subject: str, expected: str
) -> None:
    plan = profile().plan
    (security,) = plan.securities
    fitted = izuma.fitted(replace(plan, securities=(replace(security, subject=subject),)), ACCOUNT)
    assert fitted.securities[0].subject == expected


def test_its_security_is_written_to_the_object_without_what_means_something_else_to_it() -> None:
    plan = profile().plan
    security = replace(
        plan.securities[0], certificate_usage=2, matching_type=1, sni="lwm2m.example.com", ciphersuites=(0xC0AE,)
    )
    (fitted,) = izuma.fitted(replace(plan, securities=(security,)), ACCOUNT).securities
    assert (fitted.to_object, fitted.clears_key) == (True, True)
    assert (fitted.certificate_usage, fitted.matching_type, fitted.sni, fitted.ciphersuites) == (None, None, None, ())


def test_the_profile_of_a_renewal_is_that_of_the_factory_the_device_came_from() -> None:
    plain, by_factory = profile(), replace(profile(), name="by-factory", trusted_certificate="ab" * 32)
    device = OperationalDevice(
        account_id=ACCOUNT, device_id=device_id(ACCOUNT, "device-1"), endpoint="device-1", service="LWM2M"
    )

    def chosen(*words: str) -> str:
        known = (plain, by_factory)
        return from_operational(peer("lwm2m"), device, lambda _account: known, factory=frozenset(words)).profile.name

    assert chosen("ab" * 32, "0" * 32) == "by-factory"
    assert chosen() == chosen("cd" * 32) == "default"


def test_an_izuma_client_waits_on_its_exchange_because_it_takes_5_03_for_a_failure() -> None:
    assert izuma.hold_seconds(profile().est, True) == 600.0
    assert izuma.hold_seconds(profile("hold_seconds = 5").est, True) == 5
    assert izuma.hold_seconds(profile().est, False) is None
