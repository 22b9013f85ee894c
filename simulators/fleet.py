"""Many devices from one factory: who they are, and running them side by side."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from simulators import registration
from simulators.brief import Behaviour, Patience, Report, Server
from simulators.device import Device
from simulators.dtls import Credential, PskCredential, X509Credential
from simulators.faults import Faults, FaultyPath
from simulators.izuma import registered
from simulators.izuma.device import Izuma, IzumaDevice

# RFC 4279 5.3 asks for up to 64 bytes of key, OpenSSL takes 512; less than 64 bits is a mistyped file.
SHORTEST_KEY = 8
# A factory certificate outlives its device; 20 years.
FACTORY_VALIDITY = timedelta(days=7305)


class BadInput(Exception):
    """What the user gave cannot be used; the text is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class Member:
    """One device of a fleet: its endpoint name and how it gets its credential, made when it starts."""

    endpoint: str
    credential: Callable[[], Credential]


# -- who they are -----------------------------------------------------------------------------------------


def read_chain(path: Path) -> tuple[x509.Certificate, ...]:
    """Certificates of a PEM file in their order. Raises BadInput."""
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadInput(f"{path} holds no certificate in PEM; give the file of one") from error


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The EC key of an unencrypted PEM file. Raises BadInput."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path} holds no unencrypted private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadInput(f"{path} holds no key on an elliptic curve")
    return key


def with_certificate(certificate: Path, key: Path, endpoint: str | None) -> Member:
    """The one device that has this certificate; its endpoint name is the CN if none is given. Raises BadInput."""
    chain = read_chain(certificate)
    credential = X509Credential(chain, read_key(key))
    if endpoint is None:
        names = [str(one.value) for one in chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if len(names) != 1:
            raise BadInput(f"{certificate} has {len(names)} CNs, so name the device with --endpoint")
        (endpoint,) = names
    return Member(endpoint, lambda: credential)


def from_factory(certificate: Path, key: Path, names: Sequence[str]) -> list[Member]:
    """Devices that the factory makes a certificate for, CN = endpoint name.

    `certificate` holds the factory's CA first, then what leads to its root; a root is not sent. Raises
    BadInput.
    """
    chain, signer = read_chain(certificate), read_key(key)
    if chain[0].public_key() != signer.public_key():
        raise BadInput(f"{key} is not the key of the first certificate in {certificate}")
    above = tuple(one for one in chain if one.subject != one.issuer)
    now = datetime.now(UTC)
    if chain[0].not_valid_after_utc <= now:
        raise BadInput(
            f"{certificate} ended on {chain[0].not_valid_after_utc:%Y-%m-%d}: give a factory that still makes any"
        )
    return [Member(name, partial(mint, name, chain[0], above, signer, now)) for name in names]


def mint(
    name: str,
    issuer: x509.Certificate,
    above: tuple[x509.Certificate, ...],
    signer: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> X509Credential:
    """A new key and factory certificate (P-256, clientAuth) for the endpoint `name`; `now` is aware UTC."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - timedelta(hours=1), issuer.not_valid_before_utc))
        .not_valid_after(min(now + FACTORY_VALIDITY, issuer.not_valid_after_utc))
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return X509Credential((certificate, *above), key)


def with_psk(identity: str, key_file: Path, endpoint: str | None) -> Member:
    """The one device with this identity; the file holds its key in hexadecimal. Raises BadInput."""
    credential = PskCredential(identity.encode(), _key(_text(key_file).strip(), str(key_file)))
    return Member(endpoint or identity, lambda: credential)


def from_psk_file(path: Path) -> list[Member]:
    """Devices of a file with lines `identity:hexkey:endpoint`; # starts a comment. Raises BadInput.

    Identity and endpoint name may hold colons: the key is the one part between that is hexadecimal, of an
    even number of at least 16 digits.
    """
    members: list[Member] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"{path}, line {number}"
        splits = list(_splits(line.strip()))
        if len(splits) != 1:
            raise BadInput(f"{where}: expected identity:hexkey:endpoint, with {2 * SHORTEST_KEY} or more digits of key")
        identity, key, endpoint = splits[0]
        members.append(Member(endpoint, partial(PskCredential, identity.encode(), _key(key, where))))
    return members


def _splits(line: str) -> Iterator[tuple[str, str, str]]:
    parts = line.split(":")
    for at in range(1, len(parts) - 1):
        if len(parts[at]) >= 2 * SHORTEST_KEY and re.fullmatch(r"(?:[0-9a-fA-F]{2})+", parts[at]):
            yield ":".join(parts[:at]), parts[at], ":".join(parts[at + 1 :])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no text in UTF-8") from error


def _key(digits: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(digits)
    except ValueError as error:
        # The digits are a secret and stay out of the message.
        raise BadInput(f"{where}: the key is not hexadecimal") from error
    if len(key) < SHORTEST_KEY:
        raise BadInput(f"{where}: a key of {len(key)} bytes is too short, {SHORTEST_KEY} is the least")
    return key


# -- running them -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a fleet runs; `behaviour` says which clients its devices are.

    `linger` as in `Device.linger`; at most `concurrency` devices bootstrap at a time. `register` seconds a device
    stays registered with what it got, None does without.
    """

    server: Server
    behaviour: Behaviour | Izuma
    patience: Patience
    trust: tuple[x509.Certificate, ...]
    out: Path | None
    concurrency: int
    linger: float
    faults: Faults
    seed: int
    register: float | None = None


async def run(members: Sequence[Member], how: Run, done: Callable[[Report], None]) -> list[Report]:
    """Bootstrap all `members`; `done` is called as each one ends, the result has their order."""
    slots = asyncio.Semaphore(how.concurrency)
    async with _through(how) as server, asyncio.TaskGroup() as group:
        there = replace(how, server=server)
        tasks = [
            group.create_task(_one(member, there, slots, done, position)) for position, member in enumerate(members)
        ]
    return [task.result() for task in tasks]


@asynccontextmanager
async def _through(how: Run) -> AsyncIterator[Server]:
    """The server, behind a faulty path where faults are asked for."""
    if how.faults == Faults():
        yield how.server
        return
    host = how.server.address[0]
    listen = ("::1", 0) if ":" in host else ("127.0.0.1", 0)
    async with FaultyPath(to=how.server.address, faults=how.faults, listen=listen, seed=how.seed) as path:
        yield replace(how.server, address=path.address)


async def _one(
    member: Member, how: Run, slots: asyncio.Semaphore, done: Callable[[Report], None], position: int
) -> Report:
    async with slots:
        device = _device(member, how, random.Random(f"{how.seed}/{position}"))
        try:
            report = await device.bootstrap()
        except BaseException:
            await device.close()
            raise
    # A device that waits for its server to have heard it takes nobody's slot.
    try:
        if report.ok and how.register is not None:
            await device.linger(how.linger)
            reason = await _work(device, how.register)
            report = replace(report, ok=reason is None, reason=reason)
        if how.out is not None:
            device.save(how.out)
        done(report)
        if report.ok:
            await device.linger(how.linger)
    finally:
        await device.close()
    return report


async def _work(device: Device | IzumaDevice, seconds: float) -> str | None:
    if isinstance(device, IzumaDevice):
        return await registered.work(device, seconds)
    return await registration.work(device, seconds)


def _device(member: Member, how: Run, jitter: random.Random) -> Device | IzumaDevice:
    credential = member.credential()
    match how.behaviour:
        case Behaviour():
            return Device(
                member.endpoint,
                credential,
                how.server,
                behaviour=how.behaviour,
                patience=how.patience,
                trust=how.trust,
                jitter=jitter,
            )
        case Izuma():
            if not isinstance(credential, X509Credential):
                raise BadInput("an Izuma client has a certificate, no pre-shared key")
            return IzumaDevice(
                member.endpoint,
                credential,
                how.server,
                behaviour=how.behaviour,
                patience=how.patience,
                trust=how.trust,
                jitter=jitter,
            )
