"""The embedded CA of an account and the server's own certificate: keys sealed, certificates in DER (storage only)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.errors import Conflict, NotFound
from server.store import audit, trust
from server.store.audit import Actor
from server.store.database import Database
from server.store.secrets import Sealer

CA_TABLE, SERVER_TABLE = "embedded_ca", "server_credential"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingMaterial:
    """What signs for the devices of an account: `chain` holds the issuing certificate, without root."""

    account_id: UUID
    issuing_key: ec.EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    root: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedCa:
    """The certificates of an embedded CA, DER; `has_root_key`: the root's key has not been taken off-line."""

    id: UUID
    account_id: UUID
    root_certificate: bytes = field(repr=False)
    issuing_certificate: bytes = field(repr=False)
    has_root_key: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCredential:
    """The server's own certificate (DER) with its key, and the root it hangs under."""

    certificate: bytes = field(repr=False)
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    root_certificate: bytes = field(repr=False)
    root_key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def chain_pem(self) -> bytes:
        """What the server shows in a handshake: its certificate, without the root, which devices hold."""
        return x509.load_der_x509_certificate(self.certificate).public_bytes(serialization.Encoding.PEM)


def _ca(row: Any) -> EmbeddedCa:
    return EmbeddedCa(
        id=row["id"],
        account_id=row["account_id"],
        root_certificate=row["root_certificate"],
        issuing_certificate=row["issuing_certificate"],
        has_root_key=row["has_root_key"],
        created_at=row["created_at"],
    )


def _packed(key: ec.EllipticCurvePrivateKey) -> bytes:
    # Not encrypted here: it is sealed right after.
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _unpacked(packed: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_der_private_key(packed, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the embedded CA's keys are elliptic curve keys")
    return key


async def add(
    database: Database,
    sealer: Sealer,
    actor: Actor,
    account_id: UUID,
    *,
    root_certificate: bytes,
    root_key: ec.EllipticCurvePrivateKey | None,
    issuing_certificate: bytes,
    issuing_key: ec.EllipticCurvePrivateKey,
) -> EmbeddedCa:
    """Record the CA that a ceremony made (certificates in DER) and trust its root for the service lwm2m.

    Conflict when the account has one.
    """
    ca_id = uuid4()
    sealed_root = (
        sealer.seal(_packed(root_key), CA_TABLE, "root_key", account_id, ca_id) if root_key is not None else None
    )
    sealed_issuing = sealer.seal(_packed(issuing_key), CA_TABLE, "issuing_key", account_id, ca_id)
    async with database.transaction() as connection:
        await trust.add_within(connection, database, actor, account_id, service="lwm2m", certificate=root_certificate)
        try:
            row = await connection.fetchrow(
                database.queries["embedded_ca_add"],
                ca_id,
                account_id,
                root_certificate,
                sealed_root,
                issuing_certificate,
                sealed_issuing,
            )
        except asyncpg.UniqueViolationError as error:
            raise Conflict("the account has an embedded CA already") from error
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="embedded_ca.made",
            subject_kind="embedded_ca",
            subject=x509.load_der_x509_certificate(issuing_certificate).subject.rfc4514_string(),
        )
    return _ca(row)


async def find(database: Database, account_id: UUID) -> EmbeddedCa | None:
    """The embedded CA of an account."""
    row = await database.fetchrow("embedded_ca_find", account_id)
    return _ca(row) if row is not None else None


async def issuing_material(database: Database, sealer: Sealer) -> list[IssuingMaterial]:
    """What signs, for every account that has an embedded CA; raises SealBroken."""
    return [
        IssuingMaterial(
            account_id=row["account_id"],
            issuing_key=_unpacked(
                sealer.open(row["issuing_key"], CA_TABLE, "issuing_key", row["account_id"], row["id"])
            ),
            chain=(x509.load_der_x509_certificate(row["issuing_certificate"]),),
            root=x509.load_der_x509_certificate(row["root_certificate"]),
        )
        for row in await database.fetch("embedded_ca_material")
    ]


async def root_key(database: Database, sealer: Sealer, account_id: UUID) -> ec.EllipticCurvePrivateKey:
    """The root's key, to be exported; NotFound when it was removed or there is no CA; raises SealBroken."""
    row = await database.fetchrow("embedded_ca_root_key", account_id)
    if row is None or row["root_key"] is None:
        raise NotFound("the root key is not here; it was removed, or there is no embedded CA")
    return _unpacked(sealer.open(row["root_key"], CA_TABLE, "root_key", account_id, row["id"]))


async def remove_root_key(database: Database, actor: Actor, account_id: UUID) -> None:
    """Forget the root's key, after it was exported; NotFound as in `root_key`."""
    async with database.transaction() as connection:
        if await connection.fetchrow(database.queries["embedded_ca_remove_root_key"], account_id) is None:
            raise NotFound("the root key is not here; it was removed, or there is no embedded CA")
        await audit.note(
            connection,
            database,
            actor,
            account_id=account_id,
            action="embedded_ca.root_key_removed",
            subject_kind="embedded_ca",
            subject="root key",
        )


async def has_server_credential(database: Database) -> bool:
    """Whether the server has its own certificate."""
    return bool(await database.fetchval("server_credential_exists"))


async def server_credential_made(database: Database) -> datetime:
    """When it was made: its certificates begin long before."""
    made = await database.fetchval("server_credential_made")
    if not isinstance(made, datetime):
        raise NotFound("the server has no certificate of its own yet; its first start makes it")
    return made


async def server_credential(database: Database, sealer: Sealer) -> ServerCredential:
    """The server's own certificate and key; NotFound before the first start made it; raises SealBroken."""
    row = await database.fetchrow("server_credential_find")
    if row is None:
        raise NotFound("the server has no certificate of its own yet; its first start makes it")
    return ServerCredential(
        certificate=row["certificate"],
        private_key=_unpacked(sealer.open(row["key"], SERVER_TABLE, "key", None, row["id"])),
        root_certificate=row["root_certificate"],
        root_key=_unpacked(sealer.open(row["root_key"], SERVER_TABLE, "root_key", None, row["id"])),
    )


async def ensure_server_credential(connection: Any, database: Database, sealer: Sealer, made: ServerCredential) -> bool:
    """Record `made` in a transaction of `connection` unless another starter was first; whether it was recorded."""
    row_id = uuid4()
    row = await connection.fetchrow(
        database.queries["server_credential_ensure"],
        row_id,
        made.root_certificate,
        sealer.seal(_packed(made.root_key), SERVER_TABLE, "root_key", None, row_id),
        made.certificate,
        sealer.seal(_packed(made.private_key), SERVER_TABLE, "key", None, row_id),
    )
    return row is not None


async def renew_server_certificate(
    database: Database,
    sealer: Sealer,
    actor: Actor,
    *,
    certificate: bytes,
    private_key: ec.EllipticCurvePrivateKey,
) -> None:
    """Replace the server's certificate (DER) and key, for other names; its root stays. NotFound."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(database.queries["server_credential_lock"])
        if row is None:
            raise NotFound("the server has no certificate of its own yet; its first start makes it")
        sealed = sealer.seal(_packed(private_key), SERVER_TABLE, "key", None, row["id"])
        await connection.execute(database.queries["server_credential_renew"], row["id"], certificate, sealed)
        await audit.note(
            connection,
            database,
            actor,
            account_id=None,
            action="server_certificate.renewed",
            subject_kind="server_certificate",
            subject=x509.load_der_x509_certificate(certificate).subject.rfc4514_string(),
        )
