"""A running server with a factory it trusts, and the devices that come to it: what the whole-server tests share."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from simulators.association import CoapParameters
from simulators.brief import Behaviour, Patience, Report, Server
from simulators.device import Device
from simulators.dtls import Credential, X509Credential
from tests.integration.service import PATIENCE, Service, running
from tests.pki import Holder, make_device_certificate, make_factory_ca, make_key

# A device of a test gives up long before the test does.
IMPATIENT = Patience(handshake=20.0, server=40.0)
# For devices that will see their session end: they wait for a Finish that never comes.
SHORT = Patience(handshake=20.0, server=2.0)
# The default profile's file, stored beside every profile that these tests set.
SERVER_CERTIFICATE = "server-ca.pem"


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Wait for a true answer and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := await condition()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        await asyncio.sleep(0.05)
    return answer


def profile(
    endpoint: str,
    *,
    bootstrap: str = "",
    est: str = "",
    security: str = "",
    mode: str = "server-key",
    uri: str = "coaps://lwm2m:5684",
) -> str:
    """A profile for endpoints of a pattern; `bootstrap`, `est` and `security` are further lines of these sections."""
    certificate = "" if mode in ("psk", "nosec") else f'server_certificate_file = "{SERVER_CERTIFICATE}"'
    return f"""
[match]
endpoint = "{endpoint}"
[bootstrap]
{bootstrap}
[est]
{est}
[[security]]
uri = "{uri}"
short_server_id = 123
mode = "{mode}"
{certificate}
{security}
[[servers]]
short_server_id = 123
"""


class Field:
    """A server, the factory whose devices it takes, and devices at will."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.folder = service.folder
        self.factory = make_factory_ca("Field Factory")

    @property
    def account(self) -> str:
        """The id of the account, as an Izuma device says it."""
        return self.service.ready["account_id"]

    # -- what an operator does ----------------------------------------

    async def trust(self, holder: Holder, *, name: str) -> None:
        """Trust a factory's CA for service bootstrap."""
        file = self.folder / f"{name}.pem"
        file.write_bytes(holder.pem)
        await self.service.command("trust", "add", str(file), "--service", "bootstrap", "--name", name)

    async def add_key(self, identity: str, key: str, endpoint: str, *, service: str = "bootstrap") -> None:
        """Add a pre-shared key, given in hexadecimal."""
        file = self.folder / f"{identity}-{service}.hex"
        file.write_text(key)
        words = ("psk", "add", identity, "--key-file", str(file), "--endpoint", endpoint, "--service", service)
        await self.service.command(*words)

    async def set_profile(self, name: str, text: str) -> None:
        """Store a profile; the server's own CA stands for the LwM2M server's."""
        folder = self.folder / "profiles"
        folder.mkdir(exist_ok=True)
        (folder / SERVER_CERTIFICATE).write_bytes(Path(self.service.ready["server_ca_file"]).read_bytes())
        (folder / f"{name}.toml").write_text(text)
        await self.service.command("profile", "set", name, str(folder / f"{name}.toml"))

    async def known(self, *, anchors: int, profiles: int) -> None:
        """Wait until every worker knows so many anchors and profiles."""

        async def at_work() -> bool:
            renewed = self.service.events("knowledge_renewed")
            return any(event["anchors"] == anchors and event["profiles"] == profiles for event in renewed)

        await until(at_work)

    async def shown(self, endpoint: str) -> dict[str, Any]:
        """What `device show` says of a device, whole."""
        return cast("dict[str, Any]", json.loads(await self.service.command("device", "show", endpoint, "--json")))

    async def seen(self) -> list[dict[str, Any]]:
        """What `device seen` lists."""
        lines = (await self.service.command("device", "seen", "--json")).splitlines()
        return [json.loads(line) for line in lines]

    async def seen_with(self, identity: str) -> dict[str, Any]:
        """The refusal whose identity holds this text, once it is on record."""

        async def listed() -> dict[str, Any] | None:
            return next((row for row in await self.seen() if identity in row["identity"]), None)

        return cast("dict[str, Any]", await until(listed))

    # -- how it went ----------------------------------------

    def ends(self, endpoint: str) -> list[dict[str, Any]]:
        """The log lines of bootstraps that ended, in their order."""
        lines = (json.loads(line) for line in self.service.log.read_text().splitlines() if line.startswith("{"))
        wanted = ("bootstrap_succeeded", "bootstrap_failed")
        return [line for line in lines if line.get("event") in wanted and line.get("endpoint") == endpoint]

    async def ended(self, endpoint: str, *, count: int = 1) -> dict[str, Any]:
        """Wait until `count` bootstraps of a device are on record; what `device show` says then."""

        await self.over(endpoint, count=count)
        return await self.shown(endpoint)

    async def bootstrapped(self, *endpoints: str) -> None:
        """Have devices bootstrap, one after another, until it is on record."""
        for endpoint in endpoints:
            report, _ = await self.bootstrap(endpoint)
            assert report.ok, report.reason
            await self.over(endpoint)

    async def over(self, endpoint: str, *, count: int = 1) -> None:
        """Wait until `count` bootstraps of a device are on record."""

        async def all_over() -> bool:
            return len(self.ends(endpoint)) >= count

        await until(all_over)

    def faults(self) -> list[str]:
        """Lines of the log that tell of a fault of ours."""
        words = ("Traceback", "internal_fault", "request_failed", "session_failed", "timer_failed", "_task_failed")
        return [line for line in self.service.log.read_text().splitlines() if any(word in line for word in words)]

    # -- devices ----------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        """Where the server listens."""
        host, _, port = self.service.server_uri.removeprefix("coaps://").rpartition(":")
        return host, int(port)

    @property
    def server(self) -> Server:
        """The server as a device knows it."""
        host, port = self.address
        anchors = x509.load_pem_x509_certificates(Path(self.service.ready["server_ca_file"]).read_bytes())
        return Server(host=host, port=port, address=(host, port), anchors=tuple(anchors))

    def server_over(self, transport: Literal["udp", "tcp"]) -> Server:
        """The server as a device of this transport knows it."""
        if transport == "udp":
            return self.server
        host, _, port = self.service.ready["coaps_tcp"].removeprefix("coaps+tcp://").rpartition(":")
        return replace(self.server, host=host, port=int(port), address=(host, int(port)))

    def certificate(self, name: str, factory: Holder | None = None) -> X509Credential:
        """A factory certificate with this common name."""
        held = make_device_certificate(factory or self.factory, name, key=make_key())
        return X509Credential((held.certificate,), cast("ec.EllipticCurvePrivateKey", held.key))

    @contextlib.asynccontextmanager
    async def device(
        self,
        endpoint: str,
        *,
        credential: Credential | None = None,
        patience: Patience = IMPATIENT,
        coap: CoapParameters | None = None,
        **behaviour: Any,
    ) -> AsyncIterator[Device]:
        """A device with a certificate of the factory, unless another credential is given."""
        made = Behaviour(**behaviour)
        if coap is not None:
            made = replace(made, coap=coap)
        held = credential or self.certificate(endpoint)
        async with Device(endpoint, held, self.server, behaviour=made, patience=patience) as device:
            yield device

    async def bootstrap(self, endpoint: str, **kind: Any) -> tuple[Report, Device]:
        """One device, from its factory to its end."""
        async with self.device(endpoint, **kind) as device:
            report = await device.bootstrap()
            if report.ok:
                await device.linger()
        return report, device


@contextlib.asynccontextmanager
async def opened(
    folder: Path, *extra: str, profiles: Mapping[str, str] | None = None, keys: Mapping[str, str] | None = None
) -> AsyncIterator[Field]:
    """A field whose factory is trusted, with profiles (name → text) and keys (identity and endpoint → hexadecimal).

    At its end the log holds no fault of the server's own.
    """
    folder.chmod(0o755)
    async with running(folder, *extra) as service:
        field = Field(service)
        changes: list[Awaitable[Any]] = [field.trust(field.factory, name="field-factory")]
        if keys:
            lines = folder / "keys.txt"
            lines.write_text("".join(f"{name}:{key}:{name}\n" for name, key in keys.items()))
            changes.append(service.command("psk", "add", "--from", str(lines)))
        changes += [field.set_profile(name, text) for name, text in (profiles or {}).items()]
        await asyncio.gather(*changes)
        # The root of the embedded CA is an anchor too, and the default profile a profile.
        await field.known(anchors=2, profiles=1 + len(profiles or {}))
        yield field
        faults = field.faults()
        assert not faults, faults


def operations(device: Device) -> Iterator[str]:
    """What the server asked of a device, as the device noted it: `GET /`, `PUT /0/1`, …"""
    for line in device.transcript:
        _, _, said = line.partition("<- ")
        if said.startswith(("GET", "PUT", "DELETE", "POST")):
            yield " ".join(said.split(",")[0].split(" ")[:2])


async def asked_to_finish(device: Device) -> None:
    """Wait until the server waits for this device's answer to Finish."""

    async def asked() -> bool:
        return "POST /bs" in list(operations(device))

    await until(asked)


def steps(session: Mapping[str, Any], step: str) -> list[Mapping[str, Any]]:
    """The steps of one kind in a session that `device show` tells of."""
    return [row for row in session["steps"] if row["op"] == step]
