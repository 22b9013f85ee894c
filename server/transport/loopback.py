"""Handshakes in memory for the self-test: a throwaway PKI, a client and the pump between it and an engine."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from server.transport import records
from server.transport.engine import Engine, EngineUnfit, PreSharedKey, Session, SessionState
from server.trust import Anchor, TrustIndex

# What both ends send through each other once they are up.
_PROBE = b"firstlight"
# Rounds after which a handshake without loss has long ended; it takes three.
_ROUNDS = 10
_COOKIE = b"\0" * 32
_BUFFER = 1 << 16


@dataclass(frozen=True, slots=True)
class Throwaway:
    """A certificate and its key that live for one check, used for both ends."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, now: datetime) -> "Throwaway":
        """A self-signed one, valid an hour around `now`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self-test")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def trusted(self) -> TrustIndex:
        """An index whose only anchor it is."""
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return TrustIndex([Anchor(id=UUID(int=1), account_id=UUID(int=1), service="bootstrap", certificate=der)])


def client_context(suites: bytes) -> SSL.Context:
    """A DTLS client offering `suites` that takes any server."""
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_cipher_list(suites)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    return context


def shake_hands(engine: Engine, context: SSL.Context, *, mtu: int, psk: PreSharedKey | None = None) -> str:
    """A whole handshake with cookie, then one record each way; the suite used. Raises EngineUnfit."""
    client = SSL.Connection(context, None)
    client.set_ciphertext_mtu(mtu)
    client.set_connect_state()
    (hello,) = _step(client, [], mtu)
    (hello,) = _step(client, [records.hello_verify_request(hello, _COOKIE)], mtu)
    session = engine.accept(hello)
    try:
        if psk is not None:
            session.offer_psk(psk.identity, psk)
        return _finish(client, session, mtu)
    finally:
        session.release()


def _finish(client: SSL.Connection, session: Session, mtu: int) -> str:
    for _ in range(_ROUNDS):
        answers = _step(client, session.datagrams_to_send(), mtu)
        for answer in answers:
            session.receive(answer)
        if session.state is SessionState.CLOSED:
            raise EngineUnfit(f"the handshake was refused: {session.refusal} {session.detail}")
        if session.state is SessionState.ESTABLISHED and not answers:
            break
    else:
        raise EngineUnfit("the handshake came to no end")
    client.bio_write(session.send(_PROBE))
    heard = client.recv(_BUFFER)
    client.send(heard)
    whole = session.receive(client.bio_read(_BUFFER))
    client.send(heard)
    if whole != [_PROBE] or session.receive_record(client.bio_read(_BUFFER)) != _PROBE:
        raise EngineUnfit("application data came back changed")
    return client.get_cipher_name() or ""


def _step(client: SSL.Connection, datagrams: list[bytes], mtu: int) -> list[bytes]:
    """Give the client what came, one datagram at a time (docs/transport.md 14); what it answers."""
    for datagram in datagrams or [b""]:
        if datagram:
            client.bio_write(datagram)
        try:
            client.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            raise EngineUnfit(f"the client refused: {error}") from error
    try:
        return records.datagrams(client.bio_read(_BUFFER), mtu)
    except SSL.WantReadError:
        return []


def now() -> datetime:
    """The wall clock, for certificates that live for one check."""
    return datetime.now(UTC)
