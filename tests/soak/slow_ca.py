"""A CA that takes 100 seconds, in real time: each device that makes its own key ends with one certificate, signed once.

The devices are those of `simulate --mode est`, which are told to come back, and one in ten an Izuma client, which waits
for the answer because it would begin anew with another key; the stand-in for GlobalSign's HVCA has a log of what it
signed. The small test of the same, with the stand-in's clock moved on, is in `integration/test_est_ca.py`.
"""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from simulators.atlas_ca import Journal
from tests.integration.field import opened, profile, until
from tests.integration.service import simulate
from tests.soak.own_ca import atlas, registration
from tests.soak.runs import Result, verdict

# More than any other client is held.
SECONDS = 100
PREFIX, IZUMA = "est-slow-", "izuma-slow-"


async def slow_ca(folder: Path, devices: int) -> Result:
    """So many devices ask at once; what a device was told, what it holds, what the CA says it signed."""
    home, out = folder / "atlas", folder / "out"
    profiles = {
        "est": profile(f"{PREFIX}*", mode="est"),
        "izuma": profile(f"{IZUMA}*", mode="est", bootstrap='content_format = "tlv"\ndiscover = "never"'),
    }
    waiting = max(1, devices // 10)
    async with opened(folder, profiles=profiles) as field:
        process, ready = await atlas(home, "", "--issue-delay", str(SECONDS))
        try:
            command = field.service.command
            await command("trust", "add", str(home / "root.pem"), "--service", "lwm2m", "--name", "slow root")
            await command("issuer", "add", "slow", *registration(home, ready["base_url"]))
            renewed = len(field.service.events("knowledge_renewed"))
            await command("issuer", "activate", "slow")
            await until(lambda: asyncio.sleep(0, len(field.service.events("knowledge_renewed")) > renewed))
            (folder / "factory.pem").write_bytes(field.factory.pem)
            (folder / "factory.key").write_bytes(field.factory.key_pem)
            words = (
                *("--server", field.service.server_uri, "--server-ca", field.service.ready["server_ca_file"]),
                *("--factory-ca", str(folder / "factory.pem"), "--factory-key", str(folder / "factory.key")),
                *("--trust", str(home / "root.pem"), "--out", str(out)),
            )
            # As RFC 7252 lets a peer wait for an answer (MAX_TRANSMIT_WAIT), and as an Izuma client waits.
            standard = (
                "--mode",
                "est",
                "--endpoint-prefix",
                PREFIX,
                "--count",
                str(devices - waiting),
                "--timeout",
                "93",
            )
            izuma = ("--mode", "izuma", "--endpoint-prefix", IZUMA, "--count", str(waiting), "--timeout", "1800")
            told = await asyncio.gather(
                simulate(*words, *standard, "--attempts", "10"),
                simulate(*words, *izuma, "--account-id", field.account),
            )
            reports = [report for _, some, _ in told for report in some]
            listed = (await command("certificate", "list", "--limit", "100000", "--json")).splitlines()
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
        entries = [entry for entry in Journal(home / "issued.jsonl").entries() if entry["event"] == "issued"]
        signed = Counter(str(entry["spki_sha256"]) for entry in entries)
        held = {str(report["endpoint"]): str(report["serial"]) for report in reports if report["ok"]}
        recorded: dict[str, list[str]] = {}
        for row in map(json.loads, listed):
            recorded.setdefault(row["endpoint"], []).append(row["serial"])
        sent_away = {name for name in held if "answered 5.03" in (out / name / "transcript.txt").read_text()}
        quickest = min((int(str(report["ms"])) for report in reports), default=0)
        facts = {
            "devices": devices,
            "completed": len(held),
            "signatures": len(entries),
            "told to come back": len(sent_away),
            "quickest after ms": quickest,
        }
        return verdict(
            "slow-ca",
            facts,
            (len(held) == devices, f"{devices - len(held)} devices failed"),
            (quickest >= SECONDS * 1000, "the CA did not take its time"),
            (len(sent_away) > 0, "no device was told to come back"),
            (not any(name.startswith(IZUMA) for name in sent_away), "an Izuma client was told to come back"),
            (len(entries) == len(signed) == devices, f"{len(entries)} signatures for {len(signed)} keys"),
            ({str(entry["serial"]) for entry in entries} == set(held.values()), "the CA signed what no device holds"),
            (recorded == {name: [serial] for name, serial in held.items()}, "record and devices differ"),
        )


RUNS: Mapping[str, Callable[[Path, int], Awaitable[Result]]] = {"slow-ca": slow_ca}
FULL = {"slow-ca": 50}
