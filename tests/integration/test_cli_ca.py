"""The commands of the embedded CA: its ceremony, its keys, and what it issued."""

import re
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.integration import rows
from tests.integration.commands import Cli, bootstrapped


def test_the_ceremony_makes_two_roots_and_shows_them(cli: Cli) -> None:
    said = cli("ca", "init")
    assert re.findall(r"^(device root|issuing CA|server root|server): CN=", said, re.MULTILINE) == [
        "device root",
        "issuing CA",
        "server root",
        "server",
    ]
    assert cli("ca", "init") == said
    shown = cli.json("ca", "show")
    assert [row["certificate"] for row in shown] == ["device root", "issuing CA", "server root", "server"]
    assert all(row["key"] == "sealed in the record" for row in shown)
    assert {row["fingerprint"] for row in shown} == set(re.findall(r"[0-9a-f]{64}", said))
    table = cli("ca", "show")
    assert table.splitlines()[0].split() == ["certificate", "subject", "until", "fingerprint", "key"]
    assert "issuing CA" in table


def test_certificates_are_exported_as_pem(cli: Cli) -> None:
    out = cli.folder / "root.pem"
    cli("ca", "export", "device-root", "--out", str(out))
    root = x509.load_pem_x509_certificate(out.read_bytes())
    issuing = x509.load_pem_x509_certificate(cli("ca", "export", "issuing").encode())
    server_root = x509.load_pem_x509_certificate(cli("ca", "export", "server-root").encode())
    issuing.verify_directly_issued_by(root)
    assert server_root.subject == server_root.issuer != root.subject


def test_the_root_key_leaves_encrypted_and_stays_away(cli: Cli) -> None:
    passphrase = cli.file("passphrase", "correct horse battery staple\n")
    out = cli.folder / "root-key.pem"
    words = ("ca", "export-root-key", "--out", str(out), "--passphrase-file", passphrase)
    assert "encrypted. Keep" in cli(*words)
    assert out.stat().st_mode & 0o777 == 0o600
    key = load_pem_private_key(out.read_bytes(), b"correct horse battery staple")
    root = x509.load_pem_x509_certificate(cli("ca", "export", "device-root").encode())
    assert key.public_key() == root.public_key()
    with pytest.raises(TypeError):
        load_pem_private_key(out.read_bytes(), None)
    assert "a key never overwrites a file" in cli.refused(*words)
    out.unlink()
    assert "and no longer here" in cli(*words, "--remove")
    assert cli.json("ca", "show")[0]["key"] == "off-line"
    out.unlink()
    assert "the root key is not here" in cli.refused(*words)
    assert not out.exists()


def test_a_ceremony_can_take_the_root_key_off_line_at_once(cli: Cli) -> None:
    out = cli.folder / "root-key.pem"
    assert "give --passphrase-file" in cli.refused("ca", "init", "--export-root-key", str(out))
    empty = cli.file("empty", "\n")
    assert "not empty" in cli.refused("ca", "init", "--export-root-key", str(out), "--passphrase-file", empty)
    assert not out.exists()
    passphrase = cli.file("passphrase", "correct horse")
    cli("ca", "init", "--export-root-key", str(out), "--passphrase-file", passphrase)
    assert out.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert cli.json("ca", "show")[0]["key"] == "off-line"


def test_what_was_issued_is_listed_and_searched(cli: Cli) -> None:
    assert "No certificate was issued yet." in cli("ca", "issued")
    opened = bootstrapped(cli)
    [row] = cli.json("ca", "issued")
    assert row == {
        "serial": f"{opened.serial:x}",
        "endpoint": "dev-1",
        "service": "LWM2M",
        "state": "delivered",
        "until": f"{rows.NOW + timedelta(days=730):%Y-%m-%d}",
        "revoked": None,
    }
    assert f"{opened.serial:x}" in cli("ca", "issued", "--endpoint", "dev-1", "--state", "delivered")
    assert cli.json("ca", "issued", "--serial", f"{opened.serial:X}") == [row]
    assert cli.json("ca", "issued", "--endpoint", "other") == []
    assert "a serial number is hexadecimal, xyz is not" in cli.refused("ca", "issued", "--serial", "xyz")


def test_the_revocation_list_is_written(cli: Cli) -> None:
    out = cli.folder / "ca.crl"
    assert "0 revoked certificates are listed" in cli("ca", "crl", "--out", str(out))
    crl = x509.load_der_x509_crl(out.read_bytes())
    issuing = x509.load_pem_x509_certificate(cli("ca", "export", "issuing").encode())
    assert crl.issuer == issuing.subject
    assert list(crl) == []


def test_a_file_that_cannot_be_written_is_told_in_one_line_and_nothing_is_taken_off_line(cli: Cli) -> None:
    passphrase = cli.file("passphrase", "correct horse battery staple\n")
    cli("ca", "init")
    # A folder stands where the file is to be, whoever runs the tests.
    out = cli.folder / "taken"
    out.mkdir()
    (cli.folder / "plain").write_text("")
    below = cli.folder / "plain" / "key.pem"
    for words, file in (
        (("ca", "export", "device-root", "--out"), out),
        (("ca", "crl", "--out"), out),
        (("ca", "export-root-key", "--remove", "--passphrase-file", passphrase, "--out"), below),
    ):
        said = cli.refused(*words, str(file))
        assert said.startswith(f"firstlight: {file} cannot be written (")
        assert "; give a file in a folder that exists" in said
    assert cli.json("ca", "show")[0]["key"] == "sealed in the record"
