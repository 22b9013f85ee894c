"""The OpenSSL engine in memory: the traps of dtls.md that need no socket."""

import gc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA224
from hypothesis import given, settings
from hypothesis import strategies as st

from server.transport import openssl, openssl_session, records
from server.transport.engine import EngineUnfit, PreSharedKey, RefusalReason, SessionState
from server.transport.openssl import OpenSslEngine
from server.transport.openssl_codes import OVERRULED, REASONS, VERIFY_ERRORS
from server.transport.openssl_session import OpenSslSession
from server.trust import TrustIndex
from tests.unit.transport.certificates import NOW, Made, Pki, anchor, make
from tests.unit.transport.client import PSK_SUITES, Client, lib, psk, psk_client, x509_client

COOKIE = b"c" * 32
# RFC 6347 4.1.
MAX_PLAINTEXT = 16384
Door = Callable[[OpenSslSession, bytes], list[bytes]]


def engine(pki: Pki, index: TrustIndex | None = None, **options: Any) -> OpenSslEngine:
    chosen = index or pki.index
    return OpenSslEngine(
        certificate_chain_pem=options.pop("pem", pki.server.pem),
        private_key=options.pop("key", pki.server.key),
        trust=options.pop("trust", lambda: chosen),
        now=lambda: NOW,
        **options,
    )


def accept(made: OpenSslEngine, client: Client) -> OpenSslSession:
    (hello,) = client.start()
    (hello,) = client.receive(records.hello_verify_request(hello, COOKIE))
    return made.accept(hello)


def finish(session: OpenSslSession, client: Client) -> None:
    """Carry datagrams to and fro until both have nothing to say."""
    while waiting := session.datagrams_to_send():
        answers = [answer for datagram in waiting for answer in client.receive(datagram)]
        for answer in answers:
            if session.state is not SessionState.CLOSED:
                session.receive(answer)


def connect(made: OpenSslEngine, client: Client, key: PreSharedKey | None = None) -> OpenSslSession:
    session = accept(made, client)
    if key is not None:
        session.offer_psk(key.identity, key)
    finish(session, client)
    return session


# -- what comes up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [b"P-256", b"P-384", b"X25519"])
def test_the_offered_curves_work(pki: Pki, curve: bytes) -> None:
    client = psk_client(suites="ECDHE-PSK-AES128-CBC-SHA256", curves=curve)
    assert connect(engine(pki), client, psk()).state is SessionState.ESTABLISHED


@pytest.mark.parametrize("curve", [b"P-521", b"X448"])
def test_other_curves_find_no_common_suite(pki: Pki, curve: bytes) -> None:
    session = connect(engine(pki), psk_client(suites="ECDHE-PSK-AES128-CBC-SHA256", curves=curve), psk())
    assert session.refusal is RefusalReason.NO_COMMON_SUITE


def test_a_device_may_have_a_p_384_key(pki: Pki) -> None:
    device = make("dev-384", pki.root, key=ec.generate_private_key(ec.SECP384R1()))
    client = Client(certificate=device)
    assert connect(engine(pki), client).state is SessionState.ESTABLISHED


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


def test_a_session_is_never_resumed_and_no_ticket_given(pki: Pki) -> None:
    """dtls.md 24: resumption would pass by the judge of certificates and the look-up of keys."""
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


def test_identities_are_not_mixed_up_when_memory_is_used_again(pki: Pki) -> None:
    """dtls.md 10: OpenSSL frees and allocates its objects at the same addresses."""
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
    """dtls.md 8: an exception in a callback would print to standard error and look like an unknown identity."""

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


def test_the_callbacks_live_as_long_as_a_session_needs_them(pki: Pki) -> None:
    client = x509_client(pki)
    session = accept(engine(pki), client)
    gc.collect()
    finish(session, client)
    assert session.state is SessionState.ESTABLISHED


def test_close_notify_closes_and_is_answered(pki: Pki) -> None:
    client = x509_client(pki)
    session = connect(engine(pki), client)
    for datagram in client.close():
        assert session.receive(datagram) == []
    assert (session.state, session.closed_by_peer) == (SessionState.CLOSED, True)
    assert [datagram[0] for datagram in session.datagrams_to_send()] == [records.ALERT]


def test_a_released_session_may_be_released_again(pki: Pki) -> None:
    session = connect(engine(pki), x509_client(pki))
    session.release()
    session.release()


def test_renegotiation_is_refused_and_harms_nothing(pki: Pki) -> None:
    client = x509_client(pki)
    session = connect(engine(pki), client)
    client.connection.renegotiate()
    try:
        client.connection.do_handshake()
    except openssl.SSL.Error:
        pass
    for datagram in client.output():
        session.receive(datagram)
    assert session.state is SessionState.ESTABLISHED
    assert session.send(b"still here")


def test_trust_is_asked_anew_for_every_device(pki: Pki) -> None:
    current = [TrustIndex([])]
    made = engine(pki, trust=lambda: current[0])
    assert connect(made, x509_client(pki)).refusal is RefusalReason.UNKNOWN_CA
    current[0] = pki.index
    assert connect(made, x509_client(pki)).state is SessionState.ESTABLISHED


# -- what is refused ------------------------------------------------------------------------------------------


def bad_devices(pki: Pki) -> dict[RefusalReason, tuple[Made, list[Made], str]]:
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


def test_a_candidate_of_the_same_name_that_fails_does_not_fail_the_handshake(pki: Pki) -> None:
    """dtls.md 23: a failed signature leaves its error in the queue all sessions share."""
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


@pytest.mark.parametrize("version", [0xFEFF])
def test_dtls_1_0_is_refused(pki: Pki, version: int) -> None:
    client = x509_client(pki, version=version, suites="ALL")
    session = connect(engine(pki), client)
    assert session.refusal is RefusalReason.PROTOCOL_VERSION
    assert "protocol version" in client.error


def test_reasons_are_only_those_we_have_words_for() -> None:
    assert set(REASONS.values()) <= set(RefusalReason)


# -- sizes and streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mtu", [299, 16385])
def test_an_mtu_out_of_range_is_refused(pki: Pki, mtu: int) -> None:
    with pytest.raises(ValueError, match="MTU"):
        engine(pki, mtu=mtu)


def test_a_key_that_is_not_the_certificates_is_refused(pki: Pki) -> None:
    with pytest.raises(ValueError, match="fit"):
        engine(pki, key=ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize("mtu", [300, 512, 1200])
def test_our_flights_keep_the_mtu(pki: Pki, mtu: int) -> None:
    client = x509_client(pki, mtu=mtu)
    session = accept(engine(pki, mtu=mtu), client)
    waiting = session.datagrams_to_send()
    while waiting:
        assert max(map(len, waiting)) <= mtu
        for answer in [answer for datagram in waiting for answer in client.receive(datagram)]:
            session.receive(answer)
        waiting = session.datagrams_to_send()
    assert session.state is SessionState.ESTABLISHED
    assert 0 < len(session.send(b"x" * session.cleartext_mtu)) <= mtu
    assert session.datagrams_to_send() == []


def test_the_timer_of_our_flight_is_told_and_ends_with_the_handshake(pki: Pki) -> None:
    client = x509_client(pki)
    session = accept(engine(pki), client)
    waiting = session.next_timer()
    assert waiting is not None
    assert 0 <= waiting <= 1
    finish(session, client)
    assert session.next_timer() is None


RUBBISH = [
    b"\x17" * 13,
    b"\x17\xfe\xfd\0\1" + b"\0" * 6 + b"\0\x40" + b"short",
    b"\x17\xfe\xfd\0\1" + b"\0" * 6 + b"\0\x10" + b"\0" * 16,
    b"\x15\xfe\xfd\0\1" + b"\0" * 6 + b"\0\2\2\0",
    b"\x15\xfe\xfd\0\0" + b"\0" * 6 + b"\0\2\2\0",
    b"\x16\xfe\xfd\0\0" + b"\0" * 6 + b"\0\x0c\1\0\0\0" + b"\0" * 8,
    b"\0" * 5000,
    b"\x17\xfe\xfd\0\1" + b"\xff" * 8 + b"\0" * 16000,
]


def by_receive(session: OpenSslSession, datagram: bytes) -> list[bytes]:
    """The door that takes every datagram."""
    return session.receive(datagram)


def by_record(session: OpenSslSession, datagram: bytes) -> list[bytes]:
    """As an association does it: the short way first."""
    plaintext = session.receive_record(datagram)
    if plaintext is None:
        return session.receive(datagram)
    return [plaintext] if plaintext else []


DOORS = [by_receive, by_record]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("rubbish", RUBBISH, ids=range(len(RUBBISH)))
def test_rubbish_before_a_good_datagram_does_not_swallow_it(pki: Pki, rubbish: bytes, door: Door) -> None:
    """dtls.md 14."""
    client = x509_client(pki)
    session = connect(engine(pki), client)
    assert door(session, rubbish) == []
    (datagram,) = client.send(b"good")
    assert door(session, datagram) == [b"good"]
    assert session.state is SessionState.ESTABLISHED


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 7), st.binary(min_size=1, max_size=1171)), max_size=12), st.booleans())
def test_the_short_way_in_gives_what_the_long_one_does(talk: list[tuple[int, bytes]], ends: bool) -> None:
    """Both doors hear the same conversation with its faults, each of a client of its own."""
    heard = []
    for door in DOORS:
        client, session = fresh()
        said: list[object] = []
        last = b""
        for kind, plaintext in talk:
            (datagram,) = client.send(plaintext)
            whole = datagram
            if kind == 1:
                datagram = datagram[:-1] + bytes((datagram[-1] ^ 1,))
            elif kind == 2:
                datagram = last or datagram
            elif kind == 3:
                datagram += client.send(plaintext)[0]
            elif kind == 4:
                datagram = datagram[:-3]
            elif kind == 5:
                datagram += b"\x17"
            elif kind == 6:
                datagram = datagram[:3] + b"\0\0" + datagram[5:]
            last = whole
            said.append((door(session, datagram), session.state))
            # A repeated handshake would be answered, nothing else is.
            assert session.datagrams_to_send() == []
        if ends:
            for datagram in client.close():
                said.append((door(session, datagram), session.state, session.closed_by_peer))
            said.append(len(session.datagrams_to_send()))
        heard.append(said)
    assert heard[0] == heard[1]


def test_the_short_way_in_takes_one_whole_record_of_application_data_and_nothing_else(pki: Pki) -> None:
    client = x509_client(pki)
    session = connect(engine(pki), client)
    (one,) = client.send(b"one")
    (two,) = client.send(b"two")
    assert [session.receive_record(one[:cut]) for cut in range(len(one))] == [None] * len(one)
    assert session.receive_record(one + two) is None
    assert session.receive_record(b"\x16" + one[1:]) is None
    assert session.receive_record(one) == b"one"
    assert session.receive_record(one) == b""
    assert session.receive_record(two) == b"two"
    (goodbye,) = client.close()
    assert session.receive_record(goodbye) is None
    assert session.state is SessionState.ESTABLISHED


def test_a_session_that_failed_has_no_record_to_send(pki: Pki) -> None:
    session = connect(engine(pki), x509_client(pki))
    assert session.send(b"x" * (MAX_PLAINTEXT + 1)) == b""
    assert session.state is SessionState.CLOSED
    assert session.detail


@settings(deadline=None, max_examples=300)
@given(st.binary(min_size=13, max_size=200), st.booleans(), st.sampled_from(DOORS))
def test_no_bytes_disturb_a_live_session(datagram: bytes, as_record: bool, door: Door) -> None:
    client, session = live()
    if as_record:
        datagram = (
            datagram[:1] + b"\xfe\xfd\0\1" + datagram[5:11] + (len(datagram) - 13).to_bytes(2, "big") + datagram[13:]
        )
    assert door(session, datagram) == []
    (good,) = client.send(b"good")
    assert door(session, good) == [b"good"]


_LIVE: list[tuple[Client, OpenSslSession]] = []


_FRESH: list[tuple[OpenSslEngine, Client]] = []


def fresh() -> tuple[Client, OpenSslSession]:
    """A live session that nothing has happened to, with a key: that is made soon."""
    if not _FRESH:
        _FRESH.append((engine(Pki()), psk_client()))
    made, client = _FRESH[0]
    client.renew()
    return client, connect(made, client, psk())


def live() -> tuple[Client, OpenSslSession]:
    """One live session for all examples: what one leaves behind would fail the next."""
    if not _LIVE:
        pki = Pki()
        client = x509_client(pki)
        _LIVE.append((client, connect(engine(pki), client)))
    return _LIVE[0]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_changed_handshake_never_proves_more_than_the_true_one(data: st.DataObject) -> None:
    """Any bytes changed in any datagram after the cookie: up with the right identity, waiting, or refused in words."""
    pki, made = shared()
    client = x509_client(pki, mtu=400)
    session = accept(made, client)
    answers = [answer for datagram in session.datagrams_to_send() for answer in client.receive(datagram)]
    # Signatures differ in length from run to run, so what is drawn must not depend on it.
    changes = data.draw(st.lists(st.tuples(st.integers(0, 1199), st.integers(1, 255)), max_size=2))
    touched = data.draw(st.sets(st.integers(0, 5), min_size=1, max_size=3))
    for number, answer in enumerate(answers):
        changed = bytearray(answer)
        for at, bits in changes if number in touched else ():
            changed[at % len(changed)] ^= bits
        session.receive(bytes(changed))
        if session.state is SessionState.CLOSED:
            break
    match session.state:
        case SessionState.ESTABLISHED:
            assert session.peer is not None
            assert session.peer.chain[0] == pki.device.der
        case SessionState.CLOSED:
            assert session.refusal is not None
            assert session.detail
        case SessionState.HANDSHAKING:
            assert session.peer is None
    session.release()


_SHARED: list[tuple[Pki, OpenSslEngine]] = []


def shared() -> tuple[Pki, OpenSslEngine]:
    if not _SHARED:
        pki = Pki()
        _SHARED.append((pki, engine(pki)))
    return _SHARED[0]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_changed_client_hello_makes_a_session_or_a_refusal(data: st.DataObject) -> None:
    pki, made = shared()
    client = x509_client(pki)
    (hello,) = client.start()
    (hello,) = client.receive(records.hello_verify_request(hello, COOKIE))
    changed = bytearray(hello)
    for at, bits in data.draw(st.lists(st.tuples(st.integers(0, 299), st.integers(1, 255)), min_size=1, max_size=4)):
        changed[at % len(changed)] ^= bits
    session = made.accept(bytes(changed))
    assert session.state is not SessionState.ESTABLISHED
    assert (session.state is SessionState.CLOSED) == (session.refusal is not None)
    session.release()


# -- the start ------------------------------------------------------------------------------------------------


def test_the_self_test_passes_on_the_installed_wheel() -> None:
    openssl.self_test()


def test_a_wheel_without_pre_shared_keys_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        Cryptography_HAS_PSK = 0

    monkeypatch.setattr(openssl, "_lib", Without())
    with pytest.raises(EngineUnfit, match="pre-shared"):
        openssl.self_test()


@pytest.mark.parametrize(
    ("suites", "wanted"), [(b"PSK-AES128-CCM8", "refused"), (b"ECDHE-ECDSA-AES128-GCM-SHA256", "refused|asked for")]
)
def test_a_wheel_that_lost_a_suite_is_unfit(monkeypatch: pytest.MonkeyPatch, suites: bytes, wanted: str) -> None:
    monkeypatch.setattr(openssl, "SUITES", suites + b":@SECLEVEL=0")
    with pytest.raises(EngineUnfit, match=wanted):
        openssl.self_test()


def test_a_wheel_whose_binding_changed_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed:
        def __getattr__(self, name: str) -> Any:
            if name == "DTLSv1_listen":
                raise AttributeError(name)
            return getattr(lib, name)

    monkeypatch.setattr(openssl_session, "_lib", Changed())
    with pytest.raises(EngineUnfit, match="DTLSv1_listen"):
        openssl.self_test()
