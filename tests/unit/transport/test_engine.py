"""What the contract says of identities and reasons."""

from hypothesis import given
from hypothesis import strategies as st

from server import trust
from server.transport.engine import LABEL_LENGTH, PeerIdentity, RefusalReason, printable
from tests.unit.transport.certificates import Pki


@given(st.binary(max_size=600))
def test_any_identity_is_shown_as_one_printable_bounded_line(identity: bytes) -> None:
    shown = printable(identity)
    assert len(shown) <= LABEL_LENGTH
    assert shown == "" or shown.isprintable()
    assert PeerIdentity(kind="psk", psk_identity=identity).label == shown


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=30))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert printable(text.encode()) == text


def test_every_reason_of_a_path_is_a_reason_of_the_transport() -> None:
    assert [RefusalReason.of(reason).value for reason in trust.RefusalReason] == [
        reason.value for reason in trust.RefusalReason
    ]


def test_a_certificate_is_labelled_by_its_subject(pki: Pki) -> None:
    assert PeerIdentity(kind="x509", chain=(pki.device.der,)).label == "CN=dev-1"
