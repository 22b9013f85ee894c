"""The OpenSSL engine in memory: the traps of docs/transport.md that need no socket."""

import gc
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from server.transport import openssl, records
from server.transport.engine import RefusalReason, SessionState
from server.transport.openssl_codes import BAD_RECORD_MAC, ERR_LIB_SSL, REASONS
from server.transport.openssl_session import OpenSslSession
from tests.unit.transport.certificates import Pki
from tests.unit.transport.client import PSK_SUITES, Client, ffi, lib, psk, psk_client, x509_client
from tests.unit.transport.openssl_rig import accept, connect, engine, finish

# -- what comes up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [b"P-256", b"P-384", b"X25519"])
def test_the_offered_curves_work(pki: Pki, curve: bytes) -> None:
    client = psk_client(suites="ECDHE-PSK-AES128-CBC-SHA256", curves=curve)
    assert connect(engine(pki), client, psk()).state is SessionState.ESTABLISHED


@pytest.mark.parametrize("curve", [b"P-521", b"X448"])
def test_other_curves_find_no_common_suite(pki: Pki, curve: bytes) -> None:
    session = connect(engine(pki), psk_client(suites="ECDHE-PSK-AES128-CBC-SHA256", curves=curve), psk())
    assert session.refusal is RefusalReason.NO_COMMON_SUITE


@pytest.mark.parametrize("size", [1, 16, 64, 256])
def test_pre_shared_keys_of_any_useful_size_work(pki: Pki, size: int) -> None:
    key = psk(key=b"k" * size)
    assert connect(engine(pki), psk_client(key=key.key), key).state is SessionState.ESTABLISHED


@pytest.mark.parametrize("identity", [b"\xff\xfe", b"i" * 128, "ä/ß".encode()])
def test_an_identity_is_bytes_not_text(pki: Pki, identity: bytes) -> None:
    key = psk(identity)
    session = connect(engine(pki), Client(suites=PSK_SUITES, identity=identity), key)
    assert session.peer is not None
    assert session.peer.psk_identity == identity


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (
            "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-CCM:ECDHE-ECDSA-AES128-CCM8",
            "ECDHE-ECDSA-AES128-CCM8",
        ),
        ("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("PSK-AES128-CBC-SHA256:ECDHE-PSK-AES128-CBC-SHA256:PSK-AES128-GCM-SHA256:PSK-AES128-CCM", "PSK-AES128-CCM"),
        ("PSK-AES128-CBC-SHA256:ECDHE-PSK-AES128-CBC-SHA256", "ECDHE-PSK-AES128-CBC-SHA256"),
    ],
)
def test_the_server_chooses_the_suite_and_cbc_comes_last(pki: Pki, offered: str, chosen: str) -> None:
    client = psk_client(suites=offered) if "PSK" in offered else x509_client(pki, suites=offered)
    assert connect(engine(pki), client, psk()).state is SessionState.ESTABLISHED
    assert client.connection.get_cipher_name() == chosen


@pytest.mark.parametrize("suite", ["PSK-AES128-CCM8", "PSK-AES128-GCM-SHA256", "ECDHE-PSK-AES128-CBC-SHA256"])
def test_of_both_kinds_the_key_is_asked_for_where_that_is_wished(pki: Pki, suite: str) -> None:
    made = engine(pki)
    offered = f"ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-AES128-GCM-SHA256:{suite}"
    assert connect(made, psk_client(suites=offered), psk()).refusal is RefusalReason.NO_CERTIFICATE
    client = psk_client(suites=offered)
    assert connect(made, client, psk(), keys_first=True).state is SessionState.ESTABLISHED
    assert client.connection.get_cipher_name() == suite


def test_a_session_is_never_resumed_and_no_ticket_given(pki: Pki) -> None:
    """docs/transport.md 24: resumption would pass by the judge of certificates and the look-up of keys."""
    made = engine(pki)
    client = x509_client(pki)
    assert connect(made, client).state is SessionState.ESTABLISHED
    before = client.connection.get_session()
    assert before is not None
    client.renew()
    client.connection.set_session(before)
    session = connect(made, client)
    assert client.up
    assert lib.SSL_session_reused(client.connection._ssl) == 0
    assert session.peer is not None
    assert session.peer.trusted is not None


def test_a_device_is_given_nothing_to_resume_with(pki: Pki) -> None:
    """Neither a session id in the ServerHello nor a NewSessionTicket (RFC 5246 7.4.1.3, RFC 5077 3.3)."""
    client = x509_client(pki)
    session = accept(engine(pki), client)
    spoken: dict[int, bytes] = {}
    while waiting := session.datagrams_to_send():
        for record in [record for datagram in waiting for record in records.datagrams(datagram, 1)]:
            if record[0] == records.HANDSHAKE and records.epoch(record) == 0:
                spoken[record[13]] = record
        for answer in [answer for datagram in waiting for answer in client.receive(datagram)]:
            session.receive(answer)
    assert session.state is SessionState.ESTABLISHED
    # ServerHello, Certificate, ServerKeyExchange, CertificateRequest, ServerHelloDone.
    assert sorted(spoken) == [2, 11, 12, 13, 14]
    # Behind the headers, the version and the random.
    assert spoken[2][13 + 12 + 2 + 32] == 0


def test_identities_are_not_mixed_up_when_memory_is_used_again(pki: Pki) -> None:
    """docs/transport.md 10: OpenSSL frees and allocates its objects at the same addresses."""
    made = engine(pki)
    for number in range(60):
        key = psk(b"urn:dev:%d" % (number % 7))
        session = connect(made, Client(suites=PSK_SUITES, identity=key.identity), key)
        assert session.peer is not None
        assert session.peer.psk_identity == key.identity
        if number % 3:
            session.release()


def test_a_fault_in_the_key_callback_refuses_with_words_and_prints_nothing(
    pki: Pki, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """docs/transport.md 8: an exception in a callback would print to stderr and look like an unknown identity."""

    def broken(_session: OpenSslSession, _identity: bytes) -> bytes:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(OpenSslSession, "psk_for", broken)
    session = connect(engine(pki), psk_client(), psk())
    assert session.refusal is RefusalReason.HANDSHAKE_FAILED
    assert "a fault of ours" in session.detail
    assert capfd.readouterr() == ("", "")


def test_a_client_that_signs_with_sha_1_finds_nothing_in_common(pki: Pki) -> None:
    client = x509_client(pki)
    assert lib.SSL_CTX_set1_sigalgs_list(client.context._context, b"ECDSA+SHA1") == 1
    client.renew()
    assert connect(engine(pki), client).refusal is RefusalReason.NO_COMMON_SUITE


@pytest.mark.parametrize("kind", ["x509", "psk"])
def test_the_callbacks_live_as_long_as_a_session_needs_them(pki: Pki, kind: str) -> None:
    """Nobody but the session holds the engine when OpenSSL calls back, for the certificate or for the key."""
    client = x509_client(pki) if kind == "x509" else psk_client()
    session = accept(engine(pki), client)
    gc.collect()
    if kind == "psk":
        session.offer_psk(psk().identity, psk())
    finish(session, client)
    assert session.state is SessionState.ESTABLISHED


@pytest.mark.parametrize("kind", ["x509", "psk"])
def test_the_server_hello_tells_the_time(pki: Pki, kind: str) -> None:
    """RFC 5246 7.4.1.2: devices without a clock of their own set theirs by it, whatever stands there."""
    client = x509_client(pki) if kind == "x509" else psk_client()
    before = int(time.time())
    connect(engine(pki), client, None if kind == "x509" else psk())
    random = client.connection.server_random()
    assert random is not None
    # time(2), which OpenSSL asks, is up to a tick behind the clock of Python.
    assert before - 1 <= int.from_bytes(random[:4]) <= int(time.time())


def test_renegotiation_is_refused_and_harms_nothing(pki: Pki) -> None:
    client = x509_client(pki)
    session = connect(engine(pki), client)
    client.connection.renegotiate()
    with pytest.raises(openssl.SSL.WantReadError):
        client.connection.do_handshake()
    (hello,) = client.output()
    assert session.receive(hello) == []
    (answer,) = session.datagrams_to_send()
    client.receive(answer)
    assert "no renegotiation" in client.error
    assert session.state is SessionState.ESTABLISHED
    assert session.send(b"still here")


# -- what is refused ------------------------------------------------------------------------------------------


def test_a_device_that_refuses_us_is_quoted(pki: Pki) -> None:
    client = Client(suites=PSK_SUITES, identity=b"urn:dev:1")
    session = accept(engine(pki), client)
    # A fatal alert in plain text: handshake_failure (40).
    session.receive(b"\x15\xfe\xfd\0\0" + (9).to_bytes(6, "big") + b"\0\2\2\x28")
    assert session.refusal is RefusalReason.PEER_ALERT
    assert "alert 40" in session.detail


def test_without_an_announced_key_a_psk_client_is_refused(pki: Pki) -> None:
    client = psk_client()
    session = connect(engine(pki), client)
    assert session.refusal is RefusalReason.IDENTITY_MISMATCH
    assert (session.credential, session.identity) == ("psk", "urn:dev:1")
    assert "unknown psk identity" in client.error


@pytest.mark.parametrize("key", [b"", b"k" * 4096])
def test_a_key_openssl_cannot_take_is_refused_with_words(pki: Pki, key: bytes) -> None:
    session = connect(engine(pki), psk_client(), psk(key=key))
    assert session.refusal is RefusalReason.HANDSHAKE_FAILED
    assert f"{len(key)} bytes" in session.detail


def test_dtls_1_0_is_refused(pki: Pki) -> None:
    client = x509_client(pki, version=0xFEFF, suites="ALL")
    session = connect(engine(pki), client)
    assert session.refusal is RefusalReason.PROTOCOL_VERSION
    assert "protocol version" in client.error


def test_our_reasons_for_openssls_numbers_are_its_own(pki: Pki) -> None:
    # OpenSSL knows its words once it has made a context.
    engine(pki)
    said = {
        number: ffi.string(lib.ERR_reason_error_string(ERR_LIB_SSL << 23 | number)).decode()
        for number in (*REASONS, BAD_RECORD_MAC)
    }
    assert {words: REASONS.get(number) for number, words in said.items()} == {
        "no shared cipher": RefusalReason.NO_COMMON_SUITE,
        "no suitable signature algorithm": RefusalReason.NO_COMMON_SUITE,
        "no suitable groups": RefusalReason.NO_COMMON_SUITE,
        "no shared signature algorithms": RefusalReason.NO_COMMON_SUITE,
        "no shared groups": RefusalReason.NO_COMMON_SUITE,
        "unsupported protocol": RefusalReason.PROTOCOL_VERSION,
        "wrong ssl version": RefusalReason.PROTOCOL_VERSION,
        "peer did not return a certificate": RefusalReason.NO_CERTIFICATE,
        "bad signature": RefusalReason.PROOF_FAILED,
        "psk identity not found": RefusalReason.UNKNOWN_IDENTITY,
        "decryption failed or bad record mac": None,
    }


# -- what makes no engine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mtu", [299, 16385])
def test_an_mtu_out_of_range_is_refused(pki: Pki, mtu: int) -> None:
    with pytest.raises(ValueError, match="MTU"):
        engine(pki, mtu=mtu)


def test_a_key_that_is_not_the_certificates_is_refused(pki: Pki) -> None:
    with pytest.raises(ValueError, match="fit"):
        engine(pki, key=ec.generate_private_key(ec.SECP256R1()))
