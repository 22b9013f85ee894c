"""The commands of the embedded CA: its ceremony, its keys, and what it issued."""

import re
import shlex
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from server.admin.ceremony import names_in
from tests.integration import rows
from tests.integration.commands import Cli, bootstrapped
from tests.integration.service import FIRSTLIGHT, environment


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
    server = x509.load_pem_x509_certificate(cli("ca", "export", "server").encode())
    server.verify_directly_issued_by(server_root)


def test_the_servers_certificate_is_made_anew_for_the_same_names_below_the_same_root(cli: Cli) -> None:
    def shown(which: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(cli("ca", "export", which).encode())

    root, before = shown("server-root"), shown("server")
    assert "give them the new one (`firstlight ca export server`)" in cli("ca", "renew-server")
    after = shown("server")
    after.verify_directly_issued_by(root)
    assert (shown("server-root"), names_in(after)) == (root, names_in(before))
    assert after.public_key() != before.public_key()


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
    for short, length in (("", 0), ("x", 1), ("eleven char", 11), ("ääääääääää", 10)):
        file = cli.file("short", f"{short}\r\n")
        said = cli.refused("ca", "init", "--export-root-key", str(out), "--passphrase-file", file)
        assert f"at least 12 characters, you gave {length};" in said
        assert not out.exists()
    passphrase = cli.file("passphrase", "correct horse")
    cli("ca", "init", "--export-root-key", str(out), "--passphrase-file", passphrase)
    assert out.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert cli.json("ca", "show")[0]["key"] == "off-line"


def test_what_is_written_goes_into_a_pipe_a_device_or_a_file_that_nobody_reads(cli: Cli) -> None:
    """Also where what follows is written to is standard output: nothing is said there then, and nothing replaced."""
    cli("ca", "init")
    pem = cli("ca", "export", "device-root")
    passphrase = cli.file("passphrase", "correct horse battery staple")
    closed = cli.folder / "closed.pem"
    closed.touch(0o200)
    cli("ca", "export", "device-root", "--out", str(closed))
    assert closed.read_text() == pem

    def shell(script: str) -> bytes:
        """What stands in the file that a shell had it write behind a first line."""
        written = cli.folder / "written"
        record = ("--database-url", cli.url, "--data-dir", str(cli.data))
        program = f'f() {{ {shlex.join(FIRSTLIGHT)} "$@" {shlex.join(record)}; }}'
        told = subprocess.run(
            ["bash", "-c", f"{program}; {{ echo first; {script}; }} > {written}"],
            check=True,
            stderr=subprocess.PIPE,
            cwd=cli.folder,
            env=environment(),
        )
        assert told.stderr.count(b"/dev/stdout") == ("device-root" not in script)
        first, _, rest = written.read_bytes().partition(b"\n")
        assert first == b"first"
        return rest

    assert shell("f ca export device-root --out /dev/stdout").decode() == pem
    assert shell("f ca export device-root --out >(cat > p); wait $!; cat p").decode() == pem
    assert list(x509.load_der_x509_crl(shell("f ca crl --out /dev/stdout | cat"))) == []
    key = shell(f"f ca export-root-key --out /dev/stdout --passphrase-file {passphrase}")
    load_pem_private_key(key, b"correct horse battery staple")
    assert Path("/dev/stdout").is_symlink()


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
    # As openssl and browsers show it, and as the API takes it.
    colons = opened.serial.to_bytes(20).hex(":")
    assert cli.json("ca", "issued", "--serial", colons) == [row]
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
    # These stand in the way whoever runs the tests.
    folder = cli.folder / "taken"
    folder.mkdir()
    (cli.folder / "plain").write_text("")
    below, nowhere = cli.folder / "plain" / "key.pem", cli.folder / "none" / "root.pem"
    root_key = ("ca", "export-root-key", "--remove", "--passphrase-file", passphrase, "--out")
    for words, file, why in (
        (("ca", "export", "device-root", "--out"), folder, " is a folder; give the name of a file in it"),
        (("ca", "crl", "--out"), folder, " is a folder; give the name of a file in it"),
        (("ca", "crl", "--out"), nowhere, f" cannot be written: there is no folder {nowhere.parent}; make it first"),
        (root_key, folder, " is a folder; give the name of a file in it"),
        (root_key, below, f" cannot be written: {below.parent} is no folder; give a file in one"),
        (root_key, Path("/dev/null"), " is no file: nobody could tell whether the key was kept"),
        (("ca", "export", "device-root", "--out"), Path("/dev/full"), " cannot be written (No space left on device)"),
    ):
        assert cli.refused(*words, str(file)).startswith(f"firstlight: {file}{why}")
    assert cli.json("ca", "show")[0]["key"] == "sealed in the record"
