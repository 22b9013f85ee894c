"""From nothing to a first device: four steps with commands that work on this server, each done or not."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from server.addresses import host_and_port
from server.admin import first_start
from server.api.console.door import Visitor
from server.errors import ConfigurationError
from server.store import listings, trust
from server.store.listings import Window

PATH = "/first-steps"
EXAMPLES = "trial"
# Whoever made the first device come sees that it is done; later the start page has better use for the room.
SHOWN_FOR = timedelta(hours=1)
# Who has more devices needs no guide.
MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an account is; `device` is the first that got through, else the last that failed."""

    made: bool
    trusted: bool
    device: Mapping[str, Any] | None

    @property
    def done(self) -> tuple[bool, bool, bool, bool]:
        """Each of the four steps."""
        came = self.device is not None
        arrived = self.device is not None and self.device["last_outcome"] == "bootstrapped"
        # A device came by a key of its own, or by a factory that is denied since: those steps need nothing more.
        return self.made or arrived, self.trusted or arrived, came, arrived

    @property
    def mark(self) -> str:
        """Changes when a step is done."""
        return "".join("1" if each else "0" for each in self.done) + (self.device["id"].hex if self.device else "")

    @property
    def next(self) -> int:
        """The number of the first step that is not done; 5 when all are."""
        return next((at for at, done in enumerate(self.done, 1) if not done), 5)


@dataclass(frozen=True, slots=True)
class Commands:
    """What to type, on the machine that serves."""

    make: str
    trust: str
    simulate: str


async def progress(visitor: Visitor) -> Progress | None:
    """None when the account's first device is no news any more."""
    database, account_id = visitor.caller.database, visitor.caller.account_id
    devices = await listings.page(database, account_id, "device", Window(sort="created_at", limit=MOST + 1))
    if devices and (len(devices) > MOST or visitor.caller.office.now() - devices[0]["created_at"] > SHOWN_FOR):
        return None
    arrived = [row for row in devices if row["last_outcome"] == "bootstrapped"]
    failed = [row for row in reversed(devices) if row["last_outcome"] == "failed"]
    device = next(iter([*arrived, *failed]), None)
    anchors = await trust.listed(database, account_id, service="bootstrap")
    return Progress(made=bool(anchors), trusted=any(each.active for each in anchors), device=device)


def commands(visitor: Visitor) -> Commands:
    """The three of them."""
    office = visitor.caller.office
    folder = office.config.server.data_dir.resolve()
    # The program that serves, wherever it was installed.
    beside = Path(sys.executable).with_name("firstlight")
    program = str(beside) if beside.exists() else "firstlight"
    return Commands(
        make=(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 "
            '-subj "/CN=Trial Factory" -keyout factory-key.pem -out factory-ca.pem'
        ),
        # The command line works on the default account.
        trust=f"{program} trust add factory-ca.pem --service bootstrap --data-dir {folder}"
        if visitor.account.is_default
        else "",
        simulate=(
            f"{program} simulate --server {reachable(office.coaps)} --mode x509 --factory-ca factory-ca.pem "
            f"--factory-key factory-key.pem --server-ca {folder / first_start.SERVER_CA_FILE} "
            f"--endpoint-prefix {EXAMPLES}- --out devices"
        ),
    )


def reachable(coaps: str) -> str:
    """The address as a device on this machine reaches it: a wildcard is no address."""
    scheme, _, rest = coaps.partition("://")
    try:
        host, port = host_and_port(rest, "coaps")
    except ConfigurationError:
        # No host and port: shown as it is.
        return coaps
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
