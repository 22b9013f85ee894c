"""`firstlight demo`: a server of its own, simulated devices over real DTLS, and proof of what they hold.

Everything is started as a user would start it (the commands of the README) and stopped again, whatever happens. The
proof is independent of the server: `openssl verify` over every chain the devices left, and their serial numbers
against the record.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from server import demo_ca, demo_fleet, logs, rig
from server.demo_ca import CaMissing
from server.rig import RigFailed
from server.terminal import terminal

Ca = Literal["embedded", "cfssl", "globalsign"]

LISTEN = ("--coaps-tcp", "127.0.0.1:0")
KEPT_LOG = Path("firstlight-demo.log")
# What a simulated device leaves.
TRANSCRIPT = "transcript.txt"
LEFT = (TRANSCRIPT, "resources.json", "chain.pem", "chain-*.pem", "key.pem", "key-*.pem")


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


def main(*, devices: int, out: Path, anchor: Path | None, as_json: bool, ca: Ca = "embedded") -> int:
    """Run the demo; 0 only if every device passed every check."""
    console = terminal(sys.stderr if as_json else sys.stdout)
    logs.configure("console", "warning")
    try:
        return rig.run(_demo(devices, out, anchor, as_json, console, ca))
    except (RigFailed, CaMissing) as error:
        print(f"firstlight: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _demo(count: int, out: Path, anchor: Path | None, as_json: bool, console: Console, ca: Ca) -> int:
    started = time.monotonic()
    with rig.scratch("demo") as folder:
        async with rig.server(folder, *LISTEN, kept_log=KEPT_LOG) as ready, _signing(folder, ca) as issuer_root:
            console.print(f"Server {ready['coaps']} is up after {time.monotonic() - started:.1f} s", highlight=False)
            await demo_fleet.admit(folder, ready, count)
            clear(out)
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
            await rig.command("ca", "export", "device-root", "--data-dir", str(data), "--out", str(root))
            yield root
        case "cfssl":
            async with demo_ca.cfssl(folder, data, rig.command) as root:
                yield root
        case "globalsign":
            async with demo_ca.globalsign(folder, data, rig.command) as root:
                yield root
        case _:
            assert_never(ca)


# -- the devices ------------------------------------------------------------


def clear(out: Path) -> None:
    """Remove what devices of an earlier run left in `out`, and nothing else: it may be anybody's folder."""
    for folder in out.iterdir() if out.is_dir() else ():
        if folder.is_symlink() or not (folder / TRANSCRIPT).is_file():
            continue
        if all(any(file.match(name) for name in LEFT) for file in folder.iterdir()):
            shutil.rmtree(folder)


async def _devices(
    folder: Path, out: Path, ready: Mapping[str, str], count: int, console: Console
) -> list[Mapping[str, object]]:
    """Run the fleet through `firstlight simulate`, a command for each kind; their JSON lines, in order of endpoint."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("Devices bootstrapping", total=count)
        commands = demo_fleet.commands(folder, out, ready, count)
        runs = [_part(command, progress, task) for command in commands]
        reports = [report for part in await asyncio.gather(*runs) for report in part]
    return sorted(reports, key=lambda report: str(report["endpoint"]))


async def _part(command: Sequence[str], progress: Progress, task: TaskID) -> list[Mapping[str, object]]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    if process.stdout is None:
        raise AssertionError("it is a pipe")
    reports: list[Mapping[str, object]] = []
    try:
        async for line in process.stdout:
            report = json.loads(line)
            if "endpoint" in report:
                reports.append(report)
                progress.advance(task)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if not reports:
        raise RigFailed("the simulator reported no device; its words stand above")
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
    output = await rig.command("ca", "issued", "--state", "delivered", "--json", "--data-dir", str(folder / "data"))
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
