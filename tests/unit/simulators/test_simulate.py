"""What `firstlight simulate` cannot use, told before any device plays."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from simulators.cli import main


def factory(folder: Path, ends: timedelta) -> list[str]:
    """The options of a factory whose certificate ends so much after now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Factory")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1000))
        .not_valid_after(now + ends)
        .sign(key, hashes.SHA256())
    )
    (folder / "factory.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "factory.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return [
        *("--factory-ca", str(folder / "factory.pem"), "--factory-key", str(folder / "factory.key")),
        *("--server-ca", str(folder / "factory.pem"), "--server", "coaps://127.0.0.1:1", "--mode", "x509"),
    ]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["simulate", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("firstlight simulate: ")
    assert said.count("\n") == 1
    return said


def test_a_factory_that_ended_makes_no_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "factory.pem ended on 2" in told(capsys, *factory(tmp_path, -timedelta(days=1)))


def test_a_folder_that_cannot_be_made_is_told_before_a_device_plays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    said = told(capsys, *factory(tmp_path, timedelta(days=1)), "--out", str(tmp_path / "file" / "out"))
    assert "cannot be made (Not a directory): give a folder for --out" in said
