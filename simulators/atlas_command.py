"""`python -P -m simulators atlas`: the HVCA stand-in as a process, with an HTTP door to change how it behaves."""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import ssl
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from simulators.atlas import PREFIX, ROUTES, Atlas, Settings
from simulators.atlas_ca import JOURNAL, AtlasCa, Journal, open_folder, utc, write_credentials, write_private
from simulators.atlas_faults import Fault
from simulators.fleet import BadInput
from simulators.https import HttpServer, Reply, Request, Response
from simulators.words import host_port

BREAKS = ("html", "hang", "reset", "half", "late")


class AtlasServer:
    """The stand-in on a TCP port, by mutual TLS."""

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self._server = HttpServer(atlas.answer, server_tls(atlas.ca))

    async def start(self, host: str, port: int) -> str:
        """Listen; the base URL that clients are given. Raises OSError."""
        await self._server.start(host, port)
        address, port = self._server.address
        self.atlas.base_url = f"https://{f'[{address}]' if ':' in address else address}:{port}{PREFIX}"
        return self.atlas.base_url

    async def close(self) -> None:
        """Stop at once."""
        self.atlas.go_on()
        await self._server.close()


def server_tls(ca: AtlasCa) -> ssl.SSLContext:
    """TLS 1.2 or newer, for clients with a certificate of the account's CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ca.tls_root.certificate.public_bytes(Encoding.DER))
    key = ca.server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # ssl takes files only.
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(key + ca.server.certificate.public_bytes(Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    return context


class Control:
    """The door for tests.

    `GET /state`, `PATCH /settings`, `POST` and `DELETE /faults`, `POST /go-on`, `DELETE /tokens`.
    """

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas

    async def answer(self, request: Request) -> Reply:
        """Answer one HTTP request."""
        try:
            given = json.loads(request.body or b"{}")
            match request.method, request.path:
                case "GET", "/state":
                    pass
                case "PATCH", "/settings":
                    change(self._atlas.settings, given)
                case "POST", "/faults":
                    self._atlas.faults.append(read_fault(given))
                case "DELETE", "/faults":
                    self._atlas.faults.clear()
                case "POST", "/go-on":
                    self._atlas.go_on()
                case "DELETE", "/tokens":
                    self._atlas.expire_tokens()
                case _:
                    return Response(404)
        except (ValueError, TypeError, BadInput) as error:
            return Response(400, f"{error}\n".encode())
        state = {"issued": self._atlas.issued, "calls": self._atlas.calls, "faults": len(self._atlas.faults)}
        return Response(200, json.dumps(state).encode(), {"Content-Type": "application/json"})


def change(settings: Settings, given: Mapping[str, Any]) -> None:
    """Change settings by name; raises BadInput for one there is not."""
    known = {each.name for each in dataclasses.fields(Settings)}
    for name, value in given.items():
        if name not in known:
            raise BadInput(f"there is no setting {name!r}; known are {', '.join(sorted(known))}")
        setattr(settings, name, value)


def read_fault(given: Mapping[str, Any]) -> Fault:
    """A fault from JSON: the fields of `Fault`. Raises BadInput or TypeError."""
    fault = Fault(**given)
    names = [name for name, _ in ROUTES]
    if fault.at not in names:
        raise BadInput(f"there is no call {fault.at!r}; known are {', '.join(names)}")
    if fault.do not in BREAKS and not (isinstance(fault.do, int) and 400 <= fault.do <= 599):
        raise BadInput(f"'do' is an HTTP status of 400 or more, or one of {', '.join(BREAKS)}")
    return fault


def add_atlas(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.prog = "firstlight atlas"
    parser.description = (
        "Simulate GlobalSign's Atlas HVCA. DIR gets the account's credentials (issuer.json is the body for POST "
        "/v3/certificate-issuers), the CA chain and the log of what was signed; a later start on the same DIR goes on "
        "from there. The first JSON line, and the ready file, say where it listens."
    )
    parser.epilog = "Example: firstlight atlas --dir atlas --ready-file atlas.json --quota 100"
    parser.set_defaults(run=_atlas)
    parser.add_argument("--dir", type=Path, required=True, metavar="DIR", help="folder for keys, credentials and log")
    parser.add_argument(
        "--listen", type=host_port, default=("127.0.0.1", 0), metavar="HOST:PORT", help="address of the API"
    )
    parser.add_argument(
        "--control",
        type=host_port,
        default=("127.0.0.1", 0),
        metavar="HOST:PORT",
        help="address to control it by, for tests",
    )
    parser.add_argument(
        "--ready-file", type=Path, metavar="FILE", help="JSON file written when it listens, removed at the end"
    )
    parser.add_argument("--policy", type=Path, metavar="FILE", help="validation policy (JSON)")
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="passphrase for the client's key, when that is made"
    )
    defaults = Settings()
    for name, kind, words in (
        ("token_seconds", float, "seconds that a token is valid"),
        ("quota", int, "certificates that may be issued"),
        ("pending_polls", int, "polls that a certificate is in progress"),
        ("issue_delay", float, "seconds that issuing takes"),
        ("rate", int, "certificate requests taken per second"),
    ):
        default = getattr(defaults, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            default=default,
            metavar="N",
            help=f"{words} (default {'none' if default is None else default})",
        )


def _atlas(options: argparse.Namespace) -> int:
    try:
        policy = json.loads(options.policy.read_text()) if options.policy else Settings().policy
        passphrase = options.passphrase_file.read_text().strip() if options.passphrase_file else ""
        ca = open_folder(options.dir, options.listen[0], utc(time.time()), passphrase=passphrase)
    except OSError as error:
        raise BadInput(
            f"{error.filename} cannot be used: {error.strerror}; give files that this user may read, and with --dir a "
            "folder that it may write"
        ) from error
    except ValueError as error:
        raise BadInput(str(error)) from error
    names = ("token_seconds", "quota", "pending_polls", "issue_delay", "rate")
    settings = Settings(policy=policy, **{name: getattr(options, name) for name in names})
    asyncio.run(_serve(options, Atlas(ca, Journal(options.dir / JOURNAL), settings)))
    return 0


async def _serve(options: argparse.Namespace, atlas: Atlas) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = AtlasServer(atlas)
    control = HttpServer(Control(atlas).answer, None)
    try:
        try:
            base_url = await server.start(*options.listen)
            await control.start(*options.control)
        except OSError as error:
            raise BadInput(f"cannot listen: {error.strerror}") from error
        write_credentials(options.dir, atlas.ca, base_url)
        host, port = control.address
        ready = {
            "base_url": base_url,
            "control": f"http://{f'[{host}]' if ':' in host else host}:{port}",
            "dir": str(options.dir.resolve()),
            "pid": os.getpid(),
        }
        print(json.dumps(ready), flush=True)
        if options.ready_file is not None:
            write_private(options.ready_file, json.dumps(ready))
        await stop.wait()
    finally:
        if options.ready_file is not None:
            with contextlib.suppress(FileNotFoundError):
                options.ready_file.unlink()
        await control.close()
        await server.close()
        print(json.dumps({"issued": atlas.issued, "calls": atlas.calls}), flush=True)
