"""The devices of the demo: each kind of client, as many of each as the number allows, with what it needs here."""

import asyncio
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from server import rig

FACTORY = "Demo Factory"
SERVER_CERTIFICATE = "server-ca.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind: how its endpoint names begin, what `simulate` is told, and the profile it needs beside the default.

    `transport` is the name in the ready file; `profile` a name and the text.
    """

    prefix: str
    words: tuple[str, ...]
    transport: str = "coaps"
    profile: tuple[str, str] | None = None


def _est(endpoint: str, bootstrap: str) -> str:
    return f"""
[match]
endpoint = "{endpoint}"
[bootstrap]
{bootstrap}
[[security]]
uri = "coaps://lwm2m.example.com:5684"
short_server_id = 123
mode = "est"
server_certificate_file = "{SERVER_CERTIFICATE}"
[[servers]]
short_server_id = 123
"""


# An Izuma client takes TLV alone and answers no Discover (docs/izuma.md).
_IZUMA = "izuma", _est("izuma-*", 'content_format = "tlv"\ndiscover = "never"')
PSK = Kind(prefix="psk-device-", words=("--mode", "psk"))
KINDS = (
    Kind(prefix="device-", words=("--mode", "x509")),
    PSK,
    Kind(prefix="est-device-", words=("--mode", "est"), profile=("est", _est("est-device-*", ""))),
    Kind(prefix="izuma-udp-", words=("--mode", "izuma", "--transport", "udp"), profile=_IZUMA),
    Kind(prefix="izuma-tcp-", words=("--mode", "izuma", "--transport", "tcp"), transport="coaps_tcp", profile=_IZUMA),
)


def shares(count: int) -> Mapping[Kind, int]:
    """How many devices of each kind; the first kinds get what does not divide."""
    each, left = divmod(count, len(KINDS))
    return {kind: each + (number < left) for number, kind in enumerate(KINDS)}


async def admit(folder: Path, ready: Mapping[str, str], count: int) -> None:
    """Make the factory's CA and keys, and tell the server of them and of the profiles, as an operator would."""
    await rig.trust_factory(folder, FACTORY, datetime.now(UTC))
    keys = {f"{PSK.prefix}{number:04d}": secrets.token_hex(16) for number in range(1, shares(count)[PSK] + 1)}
    if keys:
        await rig.add_keys(folder, keys)
    profiles = dict(kind.profile for kind, share in shares(count).items() if share and kind.profile)
    # Here it stands for the LwM2M server's certificate.
    shutil.copyfile(ready["server_ca_file"], folder / SERVER_CERTIFICATE)
    for name, text in profiles.items():
        (folder / f"{name}.toml").write_text(text)
        await rig.command("profile", "set", name, str(folder / f"{name}.toml"), "--data-dir", str(folder / "data"))
    await asyncio.sleep(rig.CHANGES_ARRIVE)


def commands(folder: Path, out: Path, ready: Mapping[str, str], count: int) -> list[list[str]]:
    """`firstlight simulate` for each kind."""
    return [
        [
            *rig.firstlight("simulate"),
            *("--server", ready[kind.transport], "--server-ca", ready["server_ca_file"], "--out", str(out), "--json"),
            *("--count", str(share), *kind.words, *_credential(folder, kind), *_account(ready, kind)),
        ]
        for kind, share in shares(count).items()
        if share
    ]


def _credential(folder: Path, kind: Kind) -> tuple[str, ...]:
    if kind is PSK:
        return ("--psk-file", str(folder / "keys.txt"))
    factory = ("--factory-ca", str(folder / "factory.pem"), "--factory-key", str(folder / "factory.key"))
    return (*factory, "--endpoint-prefix", kind.prefix)


def _account(ready: Mapping[str, str], kind: Kind) -> tuple[str, ...]:
    return ("--account-id", ready["account_id"]) if "izuma" in kind.words else ()
