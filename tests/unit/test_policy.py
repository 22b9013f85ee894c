import re
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from lwm2m.bootstrap_request import BootstrapRequest, parse_bootstrap_request
from server import policy
from server.errors import BadRequest, NotAuthenticated, NotAuthorized
from server.profile import Profile, parse_profile
from server.transport.engine import PeerIdentity, PreSharedKey
from server.trust import Anchor, Service, Trusted
from tests import pki

CA = pki.make_factory_ca()
DEVICE = pki.make_device_certificate(CA, "device-1")
ONE, TWO, THREE = (UUID(f"0a0b0c0d-0000-4000-8000-00000000000{number}") for number in (1, 2, 3))
REQUEST = parse_bootstrap_request(["ep=device-1", "pct=112"])


def anchor(account: UUID, service: Service = "bootstrap", certificate: bytes = CA.der) -> Anchor:
    return Anchor(id=uuid4(), account_id=account, service=service, certificate=certificate)


def x509_peer(*anchors: Anchor, holder: pki.Holder = DEVICE) -> PeerIdentity:
    return PeerIdentity(kind="x509", chain=(holder.der,), trusted=Trusted((holder.der, CA.der), anchors))


PSK_PEER = PeerIdentity(
    kind="psk",
    psk_identity=b"identity",
    psk=PreSharedKey(id=uuid4(), account_id=TWO, identity=b"identity", key=b"k", endpoint="device-2"),
)


def profile(name: str, endpoint: str = "*", trusted: str | None = None) -> Profile:
    match = f'endpoint = "{endpoint}"' + (f'\ntrusted_certificate = "{trusted}"' if trusted else "")
    return parse_profile(
        f"""
        [match]
        {match}
        [[security]]
        uri = "coap://a"
        short_server_id = 1
        mode = "nosec"
        [[servers]]
        short_server_id = 1
        """,
        {},
        name=name,
    )


# -- whose device it is -----------------------------------------------------------------------------------------


def test_a_certificate_has_the_account_of_its_anchor() -> None:
    assert policy.account_of_peer(x509_peer(anchor(ONE)), REQUEST) == ONE


def test_a_pre_shared_key_has_its_own_account() -> None:
    assert policy.account_of_peer(PSK_PEER, REQUEST) == TWO
    assert policy.account_of_peer(PSK_PEER, None) == TWO


def test_several_anchors_of_one_account_are_one_account() -> None:
    assert policy.account_of_peer(x509_peer(anchor(ONE), anchor(ONE)), None) == ONE


@pytest.mark.parametrize("written", [ONE.hex, str(ONE), ONE.hex.upper()])
def test_aid_decides_between_accounts_that_hold_the_same_anchor(written: str) -> None:
    request = parse_bootstrap_request([f"aid={written}"])
    assert policy.account_of_peer(x509_peer(anchor(ONE), anchor(TWO)), request, claimed_by=TWO) == ONE


@pytest.mark.parametrize("aid", [THREE.hex, "nonsense", ""])
def test_an_aid_that_holds_no_such_anchor_is_refused_even_if_another_account_claimed_the_device(aid: str) -> None:
    request = parse_bootstrap_request([f"aid={aid}"])
    with pytest.raises(NotAuthorized, match="aid"):
        policy.account_of_peer(x509_peer(anchor(ONE), anchor(TWO)), request, claimed_by=TWO)


def test_without_aid_the_account_that_claimed_the_device_has_it() -> None:
    assert policy.account_of_peer(x509_peer(anchor(ONE), anchor(TWO)), REQUEST, claimed_by=TWO) == TWO


@pytest.mark.parametrize("claimed_by", [None, THREE])
def test_a_device_of_several_accounts_that_nobody_claimed_is_refused(claimed_by: UUID | None) -> None:
    with pytest.raises(NotAuthorized, match="2 accounts hold"):
        policy.account_of_peer(x509_peer(anchor(ONE), anchor(TWO)), REQUEST, claimed_by=claimed_by)


def test_without_a_bootstrap_request_the_account_must_follow_from_the_anchor_alone() -> None:
    assert policy.account_of_peer(x509_peer(anchor(ONE)), None) == ONE
    with pytest.raises(NotAuthenticated):
        policy.account_of_peer(x509_peer(anchor(ONE), anchor(TWO)), None, claimed_by=TWO)


def test_an_anchor_of_service_lwm2m_does_not_admit_to_a_bootstrap() -> None:
    with pytest.raises(NotAuthorized, match="service bootstrap"):
        policy.account_of_peer(x509_peer(anchor(ONE, "lwm2m")), REQUEST)
    assert policy.account_of_peer(x509_peer(anchor(ONE, "lwm2m"), anchor(TWO)), REQUEST) == TWO


def test_a_peer_that_proved_nothing_is_not_authenticated() -> None:
    with pytest.raises(NotAuthenticated):
        policy.account_of_peer(PeerIdentity(kind="x509"), REQUEST)


# -- which endpoint it is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ep", [None, "device-1"])
def test_a_certificate_proves_the_endpoint_of_its_common_name(ep: str | None) -> None:
    assert policy.endpoint_of(x509_peer(anchor(ONE)), ep) == "device-1"


@pytest.mark.parametrize("ep", ["device-2", "DEVICE-1", "device-1 ", "device%2D1"])
def test_another_endpoint_name_than_the_authenticated_one_is_a_bad_request(ep: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(ep)):
        policy.endpoint_of(x509_peer(anchor(ONE)), ep)


def test_a_pre_shared_key_proves_the_endpoint_it_is_stored_for() -> None:
    assert policy.endpoint_of(PSK_PEER, None) == "device-2"
    with pytest.raises(BadRequest, match="pre-shared key"):
        policy.endpoint_of(PSK_PEER, "device-1")


@pytest.mark.parametrize(
    "subject",
    [
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme")]),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("device-1", "device-2")]),
    ],
)
def test_a_certificate_with_no_common_name_or_several_proves_no_endpoint(subject: x509.Name) -> None:
    peer = x509_peer(anchor(ONE), holder=pki.make_certificate(subject, CA))
    with pytest.raises(BadRequest, match="exactly one common name"):
        policy.endpoint_of(peer, "device-1")


@pytest.mark.filterwarnings("ignore:Attribute's length")
@pytest.mark.parametrize("name", ["device\0", "device\n1", "\x1b[2J", "d" * 256, "ä" * 128])
@pytest.mark.parametrize("ep", [None, "device-1"])
def test_a_common_name_that_is_no_endpoint_name_proves_none(name: str, ep: str | None) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False)])
    peer = x509_peer(anchor(ONE), holder=pki.make_certificate(subject, CA))
    with pytest.raises(BadRequest, match="printable text"):
        policy.endpoint_of(peer, ep)


# -- what it gets -----------------------------------------------------------------------------------------------


def test_the_most_specific_profile_wins_in_any_order() -> None:
    every, meters = profile("every"), profile("meters", "meter-*")
    factory, one = profile("factory", "*", "ab" * 32), profile("one", "meter-1")
    profiles = [every, meters, factory, one]
    anchors = frozenset({"ab" * 32})
    for ordered in (profiles, profiles[::-1]):
        assert policy.choose_profile(ordered, "meter-1", anchors) is one
        assert policy.choose_profile(ordered, "meter-2", anchors) is factory
        assert policy.choose_profile(ordered, "meter-2", frozenset()) is meters
        assert policy.choose_profile(ordered, "valve-1", frozenset()) is every


def test_more_letters_win_and_of_equals_the_first_by_name() -> None:
    assert policy.choose_profile([profile("b", "m*"), profile("a", "meter-?")], "meter-1", frozenset()) == profile(
        "a", "meter-?"
    )
    both = [profile("b", "*-1"), profile("a", "m*1")]
    chosen = policy.choose_profile(both, "meter-1", frozenset())
    assert chosen is not None
    assert chosen.name == "a"


def test_no_profile_is_none() -> None:
    assert policy.choose_profile([profile("meters", "meter-*")], "valve-1", frozenset()) is None
    assert policy.choose_profile([], "valve-1", frozenset()) is None


def test_patterns_know_stars_and_question_marks_only() -> None:
    brackets = profile("p", "urn:[a]?*")
    assert brackets.matches("urn:[a]1", frozenset())
    assert not brackets.matches("urn:a1", frozenset())
    assert not brackets.matches("urn:[a]", frozenset())
    assert not profile("p", "Meter").matches("meter", frozenset())


# -- all of it --------------------------------------------------------------------------------------------------


def admit(peer: PeerIdentity, profiles: list[Profile], request: BootstrapRequest = REQUEST) -> policy.Admitted:
    return policy.admit(peer=peer, request=request, profiles_of=lambda _: profiles, asked_for_pack=False)


def test_an_admitted_device_has_its_account_endpoint_request_and_profile() -> None:
    every = profile("every")
    admitted = admit(x509_peer(anchor(ONE)), [every])
    assert admitted == policy.Admitted(account_id=ONE, endpoint="device-1", request=REQUEST, profile=every)


@pytest.mark.parametrize("aid", [THREE.hex, "nonsense", ""])
def test_an_izuma_client_that_names_another_account_is_one_all_the_same_in_the_account_of_its_ca(aid: str) -> None:
    """A device that was redirected here keeps what its old service gave it; its software is what it was."""
    request = parse_bootstrap_request(["ep=device-1", f"aid={aid}"])
    admitted = admit(x509_peer(anchor(ONE)), [profile("every")], request)
    assert admitted.account_id == ONE
    assert admitted.izuma
    assert [each.uri for each in admitted.profile.plan.securities] == [f"coap://a?aid={ONE.hex}"]


def test_a_profile_can_name_the_trusted_certificate_by_fingerprint_or_id() -> None:
    held = anchor(ONE)
    for word in (held.fingerprint.hex(), held.id.hex):
        assert admit(x509_peer(held), [profile("factory", "*", word)]).profile.name == "factory"


def test_the_trusted_certificate_of_another_account_chooses_no_profile() -> None:
    mine, theirs = anchor(ONE), anchor(TWO)
    request = parse_bootstrap_request([f"aid={ONE.hex}"])
    with pytest.raises(NotAuthorized, match="no profile"):
        admit(x509_peer(mine, theirs), [profile("factory", "*", theirs.id.hex)], request)


def test_a_device_no_profile_is_for_is_not_authorized() -> None:
    with pytest.raises(NotAuthorized, match="no profile is for device-1"):
        admit(x509_peer(anchor(ONE)), [])


def test_only_the_profiles_of_its_account_are_looked_at() -> None:
    asked: list[UUID] = []

    def profiles_of(account: UUID) -> list[Profile]:
        asked.append(account)
        return [profile("every")]

    policy.admit(peer=PSK_PEER, request=replace(REQUEST, endpoint=None), profiles_of=profiles_of, asked_for_pack=False)
    assert asked == [TWO]


def test_that_the_device_asked_for_a_pack_reaches_the_session() -> None:
    admitted = policy.admit(
        peer=x509_peer(anchor(ONE)), request=REQUEST, profiles_of=lambda _: [profile("every")], asked_for_pack=True
    )
    assert admitted.request.asked_for_pack
