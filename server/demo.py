"""`firstlight demo`: a server of its own, simulated devices over real DTLS, and proof of what they hold.

Everything is started as a user would start it (the commands of the README) and stopped again, whatever happens. The
proof is independent of the server: `openssl verify` over every chain the devices left, and their serial numbers
against the record.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, assert_never

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from server import demo_ca, logs
from server.demo_ca import CaMissing
from server.store.postgres import EmbeddedPostgres

Ca = Literal["embedded", "cfssl", "globalsign"]

START_TIMEOUT = 60.0
FACTORY = "Demo Factory"
LOG_WIDTH = 140


@dataclass(slots=True)
class Proof:
    """One device of the table."""

    report: Mapping[str, object]
    verified: bool
    recorded: bool

    @property
    def ok(self) -> bool:
        """The device finished, its chain verifies and the record holds its serial number."""
        return bool(self.report["ok"]) and self.verified and self.recorded


class DemoFailed(Exception):
    """The demo could not run; the text says at which step and where the server's log is."""


def main(*, devices: int, out: Path, anchor: Path | None, as_json: bool, ca: Ca = "embedded") -> int:
    """Run the demo; 0 only if every device passed every check."""
    console = Console(file=sys.stderr if as_json else sys.stdout)
    if not console.is_terminal:
        # A log has no width of its own; the table must not fold there.
        console = Console(file=console.file, width=LOG_WIDTH)
    logs.configure("console", "warning")
    try:
        return asyncio.run(_demo(devices, out, anchor, as_json, console, ca))
    except (DemoFailed, CaMissing) as error:
        print(f"firstlight: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _demo(count: int, out: Path, anchor: Path | None, as_json: bool, console: Console, ca: Ca) -> int:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="firstlight-demo-") as scratch:
        folder = Path(scratch)
        # As root the embedded PostgreSQL runs as another user, who only needs to pass through.
        folder.chmod(0o711)
        async with _server(folder) as ready, _signing(folder, ca) as issuer_root:
            console.print(f"Server {ready['coaps']} is up after {time.monotonic() - started:.1f} s", highlight=False)
            await _admit(folder, count)
            if out.exists():
                shutil.rmtree(out)
            reports = await _devices(folder, out, ready, count, console)
            root = anchor or issuer_root
            recorded = await _recorded(folder)
            proofs = [
                Proof(
                    report,
                    _verify(out / str(report["endpoint"]) / "chain.pem", root),
                    _is_recorded(report, recorded),
                )
                for report in reports
            ]
    return _tell(proofs, len(recorded), time.monotonic() - started, as_json, console)


# -- the CA ------------------------------------------------------------


@contextlib.asynccontextmanager
async def _signing(folder: Path, ca: Ca) -> AsyncIterator[Path]:
    """The CA that signs, active for the service; yields the PEM its chains must lead to."""
    data = folder / "data"
    match ca:
        case "embedded":
            root = folder / "device-root.pem"
            await _command("ca", "export", "device-root", "--data-dir", str(data), "--out", str(root))
            yield root
        case "cfssl":
            async with demo_ca.cfssl(folder, data, _command) as root:
                yield root
        case "globalsign":
            async with demo_ca.globalsign(folder, data, _command) as root:
                yield root
        case _:
            assert_never(ca)


# -- the server ------------------------------------------------------------


@contextlib.asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[Mapping[str, str]]:
    """`firstlight serve` on free loopback ports; stopped by SIGTERM at the end."""
    ready = folder / "ready.json"
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            *_firstlight("serve"),
            *("--data-dir", str(folder / "data")),
            *("--coaps", "127.0.0.1:0"),
            *("--http", "127.0.0.1:0"),
            *("--ready-file", str(ready)),
            stdout=stream,
            stderr=stream,
            stdin=asyncio.subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not ready.exists():
            if process.returncode is not None or time.monotonic() > deadline:
                kept = Path("firstlight-demo.log")
                shutil.copyfile(log, kept)
                raise DemoFailed(f"the server did not start; its log is in {kept}, the last line: {_last_line(log)}")
            await asyncio.sleep(0.05)
        yield json.loads(ready.read_text())
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(60):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
    # As root the cluster lives outside the data folder; it must not stay behind.
    postgres = EmbeddedPostgres(folder / "data")
    await postgres.start()
    await postgres.destroy()
    if process.returncode != 0:
        raise DemoFailed(f"the server ended with {process.returncode} after the demo")


def _firstlight(*words: str) -> list[str]:
    return [sys.executable, "-P", "-c", "from server.cli.commands import main; main()", *words]


async def _command(*words: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *_firstlight(*words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    if process.returncode != 0:
        raise DemoFailed(f"`firstlight {' '.join(words)}` failed: {errors.decode(errors='replace').strip()}")
    return output


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "(empty)"


# -- the factory ------------------------------------------------------------


async def _admit(folder: Path, count: int) -> None:
    """Make the factory's CA and keys, and tell the server of them as an operator would."""
    data = str(folder / "data")
    key, certificate = _factory(datetime.now(UTC))
    (folder / "factory.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "factory.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    lines = [
        f"psk-device-{number:04d}:{secrets.token_hex(16)}:psk-device-{number:04d}"
        for number in range(1, count // 2 + 1)
    ]
    (folder / "keys.txt").write_text("".join(f"{line}\n" for line in lines))
    await _command("trust", "add", str(folder / "factory.pem"), "--service", "bootstrap", "--data-dir", data)
    if lines:
        await _command("psk", "add", "--from", str(folder / "keys.txt"), "--data-dir", data)
    # Changes reach a running server within two seconds (README, "Operate").
    await asyncio.sleep(2)


def _factory(now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, FACTORY)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


# -- the devices ------------------------------------------------------------


async def _devices(
    folder: Path, out: Path, ready: Mapping[str, str], count: int, console: Console
) -> list[Mapping[str, object]]:
    """Run both halves of the fleet through `firstlight simulate`; their JSON lines, in order of endpoint."""
    common = [
        *("--server", ready["coaps"]),
        *("--server-ca", ready["server_ca_file"]),
        *("--out", str(out)),
        "--json",
    ]
    halves = [
        (
            "x509",
            count - count // 2,
            ["--factory-ca", str(folder / "factory.pem"), "--factory-key", str(folder / "factory.key")],
        ),
        ("psk", count // 2, ["--psk-file", str(folder / "keys.txt")]),
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("Devices bootstrapping", total=count)
        runs = [
            _half(
                [*_firstlight("simulate"), *common, "--mode", mode, "--count", str(number), *extra],
                progress,
                task,
            )
            for mode, number, extra in halves
            if number
        ]
        reports = [report for half in await asyncio.gather(*runs) for report in half]
    return sorted(reports, key=lambda report: str(report["endpoint"]))


async def _half(command: Sequence[str], progress: Progress, task: object) -> list[Mapping[str, object]]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    if process.stdout is None:
        raise AssertionError("it is a pipe")
    reports: list[Mapping[str, object]] = []
    async for line in process.stdout:
        report = json.loads(line)
        if "endpoint" in report:
            reports.append(report)
            progress.advance(task)  # type: ignore[arg-type]
    await process.wait()
    if not reports:
        raise DemoFailed("the simulator reported no device; its words stand above")
    return reports


# -- the proof ------------------------------------------------------------


def _verify(chain: Path, anchor: Path) -> bool:
    """`openssl verify` of a chain (leaf first) to `anchor`."""
    if not chain.exists():
        return False
    finished = subprocess.run(
        ["openssl", "verify", "-CAfile", str(anchor), "-untrusted", str(chain), str(chain)],
        capture_output=True,
        check=False,
    )
    return finished.returncode == 0


async def _recorded(folder: Path) -> set[str]:
    """Serial numbers (hexadecimal) of the certificates that the record calls delivered."""
    output = await _command("ca", "issued", "--state", "delivered", "--json", "--data-dir", str(folder / "data"))
    return {str(json.loads(line)["serial"]) for line in output.splitlines() if line.strip()}


def _is_recorded(report: Mapping[str, object], recorded: set[str]) -> bool:
    return str(report.get("serial")) in recorded


def _tell(proofs: Sequence[Proof], recorded: int, seconds: float, as_json: bool, console: Console) -> int:
    succeeded = sum(proof.ok for proof in proofs)
    failed = len(proofs) - succeeded
    agree = recorded == sum(bool(proof.report["ok"]) for proof in proofs)
    if as_json:
        for proof in proofs:
            print(json.dumps({**proof.report, "verified": proof.verified, "recorded": proof.recorded}))
        print(json.dumps({"devices": len(proofs), "succeeded": succeeded, "failed": failed, "recorded": recorded}))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("device", "credential", "CA", "serial number", "chain verified", "ms"):
            table.add_column(column, justify="right" if column == "ms" else "left", overflow="fold")
        for proof in proofs:
            report = proof.report
            table.add_row(
                str(report["endpoint"]),
                str(report["credential"]),
                _common_name(report["issuer"]),
                str(report["serial"] or "–"),
                "yes" if proof.ok else f"NO: {report['reason'] or _why(proof)}",
                str(report["ms"]),
            )
        console.print(table)
        console.print(
            f"{succeeded} of {len(proofs)} devices hold a verified certificate, "
            f"{recorded} certificates are on record as delivered, {seconds:.1f} s in all.",
            highlight=False,
        )
    return 0 if proofs and not failed and agree else 1


def _common_name(issuer: object) -> str:
    """The CN of a name as RFC 4514 has it, for the table."""
    words = str(issuer).split(",") if issuer else []
    return next((word.removeprefix("CN=") for word in words if word.startswith("CN=")), str(issuer or "–"))


def _why(proof: Proof) -> str:
    if not proof.verified:
        return "the chain does not end at the trust anchor"
    return "its serial number is not on record as delivered"
