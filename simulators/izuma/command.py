"""The options of `simulate` that only an Izuma client has."""

import argparse
from collections.abc import Mapping

from simulators.izuma.device import Izuma


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    group = parser.add_argument_group("Izuma (with the options of X.509)")
    group.add_argument(
        "--transport",
        choices=("udp", "tcp"),
        help="DTLS over UDP or TLS over TCP (default tcp for a coaps+tcp URI, else udp)",
    )
    group.add_argument("--account-id", metavar="ID", help="account in the URI of the Bootstrap-Request (aid)")
    group.add_argument("--device-id", metavar="ID", help="device id from an earlier bootstrap (iep)")
    group.add_argument("--account-stored", action="store_true", help="the LwM2M server's URI need not name the account")
    group.add_argument("--without-est", action="store_true", help="built without enrolment: mode 4 is refused")
    group.add_argument("--compliant", action="store_true", help="built for standard LwM2M: PKCS#7, no ids needed")
    group.add_argument("--certificate", action="append", metavar="NAME", help="ask for /est/NAME/sen too")


def given(options: argparse.Namespace) -> Mapping[str, object]:
    """Those that were given, for a client that has none of them; None = not given."""
    return {
        "--transport": options.transport,
        "--account-id": options.account_id,
        "--device-id": options.device_id,
        "--account-stored": options.account_stored or None,
        "--without-est": options.without_est or None,
        "--compliant": options.compliant or None,
        "--certificate": options.certificate,
    }


def over_tcp(options: argparse.Namespace) -> bool:
    """Whether the devices come over TCP."""
    if options.mode != "izuma":
        return False
    by_uri = "tcp" if options.server.startswith("coaps+tcp:") else "udp"
    return bool((options.transport or by_uri) == "tcp")


def behaviour(options: argparse.Namespace) -> Izuma:
    """What kind of client the options ask for."""
    return Izuma(
        transport="tcp" if over_tcp(options) else "udp",
        account_id=options.account_id or "",
        device_id=options.device_id or "",
        account_stored=options.account_stored,
        est=not options.without_est,
        compliant=options.compliant,
        certificates=tuple(options.certificate or ()),
        mtu=options.mtu,
    )
