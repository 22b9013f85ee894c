"""Eclipse Leshan's client library as a device, and Californium below it: fetched by Maven, compiled with ours, run."""

import asyncio
import fcntl
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.integration.field import Field
from tests.pki import Holder, make_device_certificate
from tests.programs import PATIENCE, required

SOURCE = Path(__file__).with_name("leshan")
# The first time Maven fetches a plugin of its own too, some hundred small files.
FETCHING = 10 * PATIENCE


async def _finished(*command: str, patience: float = 2 * PATIENCE) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(patience):
            printed, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, printed.decode(errors="replace"), complaint.decode(errors="replace")


def built(folder: Path, program: str = "LeshanDevice") -> str:
    """The class path of a program of ours; where Maven cannot fetch what it needs the tests are skipped.

    What is fetched stays in Maven's own cache, so only the first build of a machine needs the network.
    """
    mvn, javac = required("mvn"), required("javac")
    jars = folder / "jars"
    words = ("--batch-mode", "--quiet", "--file", str(SOURCE / "pom.xml"))
    with (SOURCE / "pom.xml").open() as pom:
        # Maven's cache is not made for two that fetch at a time; another test run may be at it.
        fcntl.flock(pom, fcntl.LOCK_EX)
        fetch = _finished(mvn, *words, "dependency:copy-dependencies", f"-DoutputDirectory={jars}", patience=FETCHING)
        code, printed, complaint = asyncio.run(fetch)
    if code:
        pytest.skip(f"Maven cannot fetch Leshan's client: {printed}{complaint}")
    listed = "".join(f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n" for jar in sorted(jars.iterdir()))
    assert listed == (SOURCE / "jars.sha256").read_text()
    path = f"{folder}:{jars}/*"
    code, printed, complaint = asyncio.run(
        _finished(javac, "-cp", path, "-d", str(folder), str(SOURCE / f"{program}.java"))
    )
    assert code == 0, printed + complaint
    return path


@dataclass(frozen=True)
class Told:
    """What the program said of its device's life, and how it ended."""

    code: int
    lines: list[dict[str, Any]]
    log: str

    def events(self) -> list[str]:
        """What happened to it, in order."""
        return [line["event"] for line in self.lines if line["event"] != "instance"]

    def held(self, object: int, *, round: int = 1) -> dict[str, dict[str, Any]]:
        """Its instances of an object after a bootstrap, by path: `resources` by number, `key_fits` of a certificate."""
        rounds, shown = 0, {}
        for line in self.lines:
            rounds += line["event"] == "started"
            if rounds == round and line["event"] == "instance" and line["path"].startswith(f"/{object}/"):
                shown[line["path"]] = line
        return shown


class Leshan:
    """Devices of Leshan's client library that come to one server."""

    def __init__(self, path: str, field: Field) -> None:
        self.path = path
        self.field = field

    def with_certificate(self, name: str, factory: Holder | None = None) -> dict[str, str]:
        """A factory certificate with this common name, as words of the program."""
        held = make_device_certificate(factory or self.field.factory, name)
        files = {word: str(self.field.folder / f"{name}.{word}") for word in ("certificate", "key")}
        Path(files["certificate"]).write_bytes(held.pem)
        key = held.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        Path(files["key"]).write_bytes(key)
        return {"mode": "x509", **files, "anchor": self.field.service.ready["server_ca_file"]}

    def with_key(self, identity: str, key: str) -> dict[str, str]:
        """A pre-shared key, in hexadecimal, as words of the program."""
        return {"mode": "psk", "identity": identity, "key": key}

    async def lives(self, endpoint: str, /, server: str = "", **words: object) -> Told:
        """One device, from its factory to its end."""
        said = {"endpoint": endpoint, "server": server or self.field.service.server_uri, **words}
        return await self._run("LeshanDevice", *(f"{name}={value}" for name, value in said.items()))

    async def asks(self, *asks: tuple[object, ...], **words: object) -> Told:
        """One device that speaks EST alone; an ask is method, path, Accept, Content-Format and file, empty for none."""
        said = {"server": self.field.service.server_uri, **words}
        asked = (f"ask={','.join(map(str, ask))}" for ask in asks)
        return await self._run("EstDevice", *(f"{name}={value}" for name, value in said.items()), *asked)

    async def _run(self, program: str, *words: str) -> Told:
        command = (required("java"), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        code, printed, log = await _finished(*command, "-cp", self.path, program, *words)
        return Told(code, [json.loads(line) for line in printed.splitlines()], log)
