"""Chains of client certificates at the OpenSSL engine: each fault by its reason and alert."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA224

from server.transport import records
from server.transport.engine import RefusalReason, SessionState
from server.transport.openssl_codes import OVERRULED, VERIFY_ERRORS
from server.trust import TrustIndex
from tests.pki import Holder
from tests.unit.transport.certificates import NOW, Pki, anchor, make
from tests.unit.transport.client import Client, lib, x509_client
from tests.unit.transport.openssl_rig import accept, connect, engine


def bad_devices(pki: Pki) -> dict[RefusalReason, tuple[Holder, list[Holder], str]]:
    """A certificate for every reason of a path, what is sent with it, and the alert it meets."""
    past = {"not_before": NOW - timedelta(days=3), "not_after": NOW - timedelta(days=1)}
    later = {"not_before": NOW + timedelta(days=1)}
    no_ca = make("No CA", pki.root, ca=False)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    server_only = (x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), False)
    chain = [make("CA 0", pki.root, ca=True)]
    for number in range(5):
        chain.append(make(f"CA {number + 1}", chain[-1], ca=True))
    return {
        RefusalReason.UNKNOWN_CA: (pki.stranger, [], "unknown ca"),
        RefusalReason.EXPIRED: (make("dev", pki.root, **past), [], "certificate expired"),
        RefusalReason.NOT_YET_VALID: (make("dev", pki.root, **later), [], "bad certificate"),
        RefusalReason.BAD_SIGNATURE: (make("dev", make("Factory Root", ca=True)), [], "decrypt error"),
        RefusalReason.WEAK_KEY: (
            make("dev", pki.root, digest=SHA224()), [], "bad certificate"),
        RefusalReason.WRONG_USAGE: (make("dev", pki.root, extensions=[server_only]), [], "unsupported certificate"),
        RefusalReason.NOT_A_CA: (make("dev", no_ca), [no_ca], "unknown ca"),
        RefusalReason.PATH_TOO_LONG: (make("dev", chain[-1]), chain[::-1], "unknown ca"),
        RefusalReason.MALFORMED: (make("dev", pki.root, extensions=[(unknown, True)]), [], "bad certificate"),
    }  # fmt: skip


@pytest.mark.parametrize("reason", [r for r in RefusalReason if r in VERIFY_ERRORS and r.value != "denied"])
def test_every_bad_certificate_is_refused_for_its_reason_with_a_fitting_alert(pki: Pki, reason: RefusalReason) -> None:
    device, sent, alert = bad_devices(pki)[reason]
    client = Client(certificate=device, intermediates=sent)
    session = connect(engine(pki), client)
    assert (session.state, session.refusal) == (SessionState.CLOSED, reason)
    assert session.credential == "x509"
    assert session.identity.startswith("CN=dev")
    assert alert in client.error
    assert session.peer is None


def test_a_denied_certificate_is_told_that_it_is_revoked(pki: Pki) -> None:
    index = TrustIndex([anchor(pki.root), anchor(pki.device, active=False)])
    client = x509_client(pki)
    assert connect(engine(pki, index), client).refusal is RefusalReason.DENIED
    assert "certificate revoked" in client.error


def test_our_words_for_openssls_numbers_are_its_own() -> None:
    names = {
        RefusalReason.UNKNOWN_CA: "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
        RefusalReason.DENIED: "CERT_REVOKED",
        RefusalReason.EXPIRED: "CERT_HAS_EXPIRED",
        RefusalReason.NOT_YET_VALID: "CERT_NOT_YET_VALID",
        RefusalReason.BAD_SIGNATURE: "CERT_SIGNATURE_FAILURE",
        RefusalReason.WRONG_USAGE: "INVALID_PURPOSE",
        RefusalReason.NOT_A_CA: "INVALID_CA",
        RefusalReason.PATH_TOO_LONG: "CERT_CHAIN_TOO_LONG",
        RefusalReason.MALFORMED: "CERT_REJECTED",
    }
    for reason, name in names.items():
        assert VERIFY_ERRORS[reason] == getattr(lib, f"X509_V_ERR_{name}")
    assert set(VERIFY_ERRORS) - set(names) == {RefusalReason.WEAK_KEY}
    overruled = (
        "UNABLE_TO_GET_ISSUER_CERT", "CERT_NOT_YET_VALID", "CERT_HAS_EXPIRED", "DEPTH_ZERO_SELF_SIGNED_CERT",
        "SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    )  # fmt: skip
    assert {getattr(lib, f"X509_V_ERR_{name}") for name in overruled} == OVERRULED


def test_what_openssl_finds_above_our_anchor_does_not_count(pki: Pki) -> None:
    # The device sends a root that has the right name and never signed its intermediate.
    wrong_root = make("Factory Root", ca=True)
    index = TrustIndex([anchor(pki.intermediate)])
    client = Client(certificate=pki.device, intermediates=[pki.intermediate, wrong_root])
    assert connect(engine(pki, index), client).state is SessionState.ESTABLISHED


def test_what_openssl_alone_finds_wrong_below_our_anchor_counts(pki: Pki) -> None:
    # Netscape's certificate type, which says "server only": our judge does not know it, OpenSSL does.
    server_only = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.16.840.1.113730.1.1"), b"\x03\x02\x06\x40")
    client = Client(certificate=make("dev", pki.root, extensions=[(server_only, False)]))
    session = connect(engine(pki), client)
    assert session.refusal is RefusalReason.MALFORMED
    assert "X509_V error 26" in session.detail
    assert session.peer is None


def test_a_candidate_of_the_same_name_that_fails_does_not_fail_the_handshake(pki: Pki) -> None:
    """docs/transport.md 23: a failed signature leaves its error in the queue all sessions share."""
    index = TrustIndex([anchor(make("Factory Root", ca=True)) for _ in range(3)] + [anchor(pki.root)])
    client = Client(certificate=make("dev", pki.root))
    assert connect(engine(pki, index), client).state is SessionState.ESTABLISHED


def test_an_error_of_one_session_is_not_another_ones(pki: Pki) -> None:
    made = engine(pki)
    healthy = x509_client(pki)
    session = connect(made, healthy)
    for _ in range(3):
        assert connect(made, Client(certificate=pki.stranger)).state is SessionState.CLOSED
        (datagram,) = healthy.send(b"x")
        assert session.receive(datagram) == [b"x"]
        assert session.state is SessionState.ESTABLISHED


def test_a_fault_while_judging_refuses_and_says_so(pki: Pki) -> None:
    def broken() -> TrustIndex:
        raise RuntimeError("a fault of ours")

    session = connect(engine(pki, trust=broken), x509_client(pki))
    assert session.refusal is RefusalReason.HANDSHAKE_FAILED
    assert "a fault of ours" in session.detail


def test_trust_is_asked_anew_for_every_device(pki: Pki) -> None:
    current = [TrustIndex([])]
    made = engine(pki, trust=lambda: current[0])
    assert connect(made, x509_client(pki)).refusal is RefusalReason.UNKNOWN_CA
    current[0] = pki.index
    assert connect(made, x509_client(pki)).state is SessionState.ESTABLISHED


def test_a_proof_that_does_not_fit_the_certificate_is_refused(pki: Pki) -> None:
    client = x509_client(pki)
    session = accept(engine(pki), client)
    answers = [answer for datagram in session.datagrams_to_send() for answer in client.receive(datagram)]
    for part in [record for answer in answers for record in records.datagrams(answer, 1)]:
        certificate_verify = part[0] == records.HANDSHAKE and part[3:5] == b"\0\0" and part[13] == 15
        session.receive(part[:-1] + bytes([part[-1] ^ 1]) if certificate_verify else part)
        if session.state is SessionState.CLOSED:
            break
    assert session.refusal is RefusalReason.PROOF_FAILED, session.detail
    assert session.peer is None


def test_a_device_may_have_a_p_384_key(pki: Pki) -> None:
    device = make("dev-384", pki.root, key=ec.generate_private_key(ec.SECP384R1()))
    client = Client(certificate=device)
    assert connect(engine(pki), client).state is SessionState.ESTABLISHED


def test_a_device_with_an_rsa_key_has_nothing_to_prove_itself_with(pki: Pki) -> None:
    device = make("dev-rsa", pki.root, key=rsa.generate_private_key(65537, 2048))
    session = connect(engine(pki), Client(certificate=device))
    assert session.state is SessionState.CLOSED
    assert session.peer is None


def test_the_server_ships_its_intermediates_and_builds_nothing(pki: Pki) -> None:
    issuing = make("Server Issuing", make("Server Root", ca=True), ca=True)
    server = make("bootstrap.example.com", issuing)
    client = x509_client(pki)
    assert connect(engine(pki, pem=server.pem + issuing.pem, key=server.key), client).peer is not None
    shown = client.connection.get_peer_cert_chain(as_cryptography=True)
    assert shown == [server.certificate, issuing.certificate]
