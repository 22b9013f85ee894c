"""`python -P -m simulators simulate`: devices that bootstrap, each a faithful one, and what they hold then."""

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from simulators import fleet, formats
from simulators.association import CoapParameters
from simulators.brief import EXCHANGE_LIFETIME, Behaviour, Patience, Report
from simulators.faults import Faults
from simulators.fleet import BadInput, Member
from simulators.izuma import command as izuma
from simulators.words import positive, probability, read_server, seconds

# RFC 7252 4.8.2: MAX_TRANSMIT_SPAN; a server that repeats Finish does so within.
LOSSY_LINGER = 45.0
DEFAULT_CONCURRENCY = 100


def add_simulate(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.prog = "firstlight simulate"
    parser.description = (
        "Simulate devices that bootstrap over DTLS. With --out each writes chain.pem (leaf first), key.pem, "
        "resources.json and transcript.txt into a folder of its own. Exit status 0 only if all succeeded."
    )
    parser.epilog = (
        "Example: firstlight simulate --server coaps://127.0.0.1:5684 --mode x509 --server-ca D/server-ca.pem "
        "--factory-ca factory-ca.pem --factory-key factory.key --count 10 --out devices"
    )
    parser.set_defaults(run=_simulate)
    parser.add_argument("--server", required=True, metavar="URI", help="bootstrap server, coaps://HOST:PORT")
    parser.add_argument("--count", type=positive, default=1, metavar="N", help="number of devices (default 1)")
    parser.add_argument(
        "--mode", choices=("x509", "psk", "est", "izuma"), required=True, help="credential and kind of the devices"
    )
    parser.add_argument(
        "--server-ca", type=Path, metavar="FILE", help="CA of the server's certificate (PEM), not for psk"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the files of each device")
    parser.add_argument("--json", action="store_true", help="one JSON line per device and a summary line")
    x509 = parser.add_argument_group("X.509")
    x509.add_argument("--cert", type=Path, metavar="FILE", help="factory certificate of one device, leaf first (PEM)")
    x509.add_argument("--key", type=Path, metavar="FILE", help="its private key (PEM)")
    x509.add_argument(
        "--factory-ca", type=Path, metavar="FILE", help="factory CA that signs one certificate per device (PEM)"
    )
    x509.add_argument("--factory-key", type=Path, metavar="FILE", help="its private key (PEM)")
    psk = parser.add_argument_group("PSK")
    psk.add_argument("--psk-identity", metavar="TEXT", help="identity of one device")
    psk.add_argument(
        "--psk-file",
        type=Path,
        metavar="FILE",
        help="with --psk-identity: its key in hexadecimal; without: lines identity:hexkey:endpoint, one per device",
    )
    izuma.add_options(parser)
    names = parser.add_argument_group("names")
    names.add_argument("--endpoint", metavar="NAME", help="endpoint name of one device (default: CN or PSK identity)")
    names.add_argument(
        "--endpoint-prefix",
        default="device-",
        metavar="TEXT",
        help="start of the names with --factory-ca (default device-)",
    )
    run = parser.add_argument_group("running")
    run.add_argument(
        "--attempts", type=positive, default=1, metavar="N", help="Bootstrap-Requests per device (default 1)"
    )
    run.add_argument(
        "--concurrency", type=positive, default=DEFAULT_CONCURRENCY, metavar="N", help="devices at a time (default 100)"
    )
    run.add_argument(
        "--loss",
        type=probability,
        default=0.0,
        metavar="P",
        help="share of datagrams lost each way, 0 to 1 (default 0)",
    )
    run.add_argument(
        "--duplicate", type=probability, default=0.0, metavar="P", help="share of datagrams sent twice (default 0)"
    )
    run.add_argument(
        "--reorder",
        type=probability,
        default=0.0,
        metavar="P",
        help="share of datagrams sent after the next one (default 0)",
    )
    run.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the three above (default 0)")
    run.add_argument("--trust", type=Path, metavar="FILE", help="CA that the issued chain must lead to (PEM)")
    run.add_argument(
        "--timeout",
        type=seconds,
        default=EXCHANGE_LIFETIME,
        metavar="S",
        help="seconds to wait for a silent server (default 247)",
    )
    run.add_argument(
        "--handshake-timeout", type=seconds, default=60.0, metavar="S", help="seconds for the handshake (default 60)"
    )
    run.add_argument(
        "--register",
        type=seconds,
        nargs="?",
        const=0.0,
        metavar="S",
        help="then register with the LwM2M server, and stay S seconds",
    )
    run.add_argument(
        "--linger", type=seconds, metavar="S", help="seconds to stay after the Finish (default 0, with faults 45)"
    )
    client = parser.add_argument_group("kind of client")
    client.add_argument(
        "--lwm2m", choices=("1.0", "1.1", "1.2"), default="1.2", help="LwM2M version it announces (default 1.2)"
    )
    client.add_argument(
        "--pct", default="112", metavar="NUMBER", help="preferred content format (pct), or none (default 112)"
    )
    client.add_argument(
        "--format",
        action="append",
        choices=sorted(formats.FORMATS),
        help="format it takes; may be repeated (default all)",
    )
    client.add_argument(
        "--account", type=int, default=0, metavar="I", help="instance of its bootstrap account, /0/I (default 0)"
    )
    client.add_argument("--no-endpoint-parameter", action="store_true", help="send no ep in the Bootstrap-Request")
    client.add_argument("--der-only", action="store_true", help="refuse certificates in PEM with 4.00")
    client.add_argument("--no-est", action="store_true", help="refuse security mode 4 with 4.00")
    client.add_argument("--no-discover", action="store_true", help="give no answer to Bootstrap-Discover")
    client.add_argument("--separate-finish", action="store_true", help="answer the Finish with a separate response")
    client.add_argument(
        "--block-size",
        type=int,
        choices=[16 << n for n in range(7)],
        default=1024,
        help="bytes of a block (default 1024)",
    )
    client.add_argument("--mtu", type=int, default=1200, metavar="BYTES", help="largest datagram (default 1200)")


def _simulate(options: argparse.Namespace) -> int:
    members = _members(options)
    how = _run(options)
    if how.out is not None:
        try:
            how.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{how.out} cannot be made ({error.strerror}): give a folder for --out") from error
    if options.json:
        reports = asyncio.run(fleet.run(members, how, lambda report: print(report.as_json(), flush=True)))
        succeeded = sum(report.ok for report in reports)
        summary = {"devices": len(reports), "succeeded": succeeded, "failed": len(reports) - succeeded}
        print(json.dumps(summary), flush=True)
    else:
        reports = _with_progress(members, how)
    return 0 if all(report.ok for report in reports) else 1


def _with_progress(members: Sequence[Member], how: fleet.Run) -> list[Report]:
    # A run with --json does not need it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        # A pipe or a log has no width of its own: serial numbers must not be folded there.
        console = Console(width=250, markup=False, emoji=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("Devices bootstrapping", total=len(members))
        reports = asyncio.run(fleet.run(members, how, lambda _: progress.advance(bar)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("device", "credential", "result", "issuer", "serial number", "ms", "attempts"):
        table.add_column(column, justify="right" if column in ("ms", "attempts") else "left", overflow="fold")
    for report in reports:
        result = "ok" if report.ok else f"FAILED: {report.reason}"
        numbers = (str(report.ms), str(report.attempts))
        table.add_row(
            report.endpoint, report.credential, result, _common_name(report.issuer), report.serial or "–", *numbers
        )
    console.print(table)
    succeeded = sum(report.ok for report in reports)
    console.print(f"{succeeded} of {len(reports)} devices bootstrapped.", highlight=False)
    return reports


def _common_name(issuer: str | None) -> str:
    """The CN of a name as RFC 4514 has it, for the table."""
    words = issuer.split(",") if issuer else []
    return next((word.removeprefix("CN=") for word in words if word.startswith("CN=")), issuer or "–")


def _members(options: argparse.Namespace) -> list[Member]:
    x509 = {"--cert": options.cert, "--key": options.key}
    factory = {"--factory-ca": options.factory_ca, "--factory-key": options.factory_key}
    psk = {"--psk-identity": options.psk_identity, "--psk-file": options.psk_file}
    if options.mode != "izuma":
        _refuse(izuma.given(options), f"--mode {options.mode}")
    if options.mode == "psk":
        _refuse(x509 | factory, "--mode psk")
        return _psk_members(options)
    _refuse(psk, f"--mode {options.mode}")
    if options.mode == "est" and options.no_est:
        raise BadInput("--no-est does not go with --mode est")
    if options.server_ca is None:
        raise BadInput(f"--mode {options.mode} needs --server-ca, the anchor of the server's certificate")
    if any(x509.values()):
        _refuse(factory, "--cert")
        _require(x509)
        if options.count != 1:
            raise BadInput("--cert is the certificate of one device; for more give --factory-ca and --factory-key")
        return [fleet.with_certificate(options.cert, options.key, options.endpoint)]
    if not any(factory.values()):
        raise BadInput(f"--mode {options.mode} needs --cert and --key, or --factory-ca and --factory-key")
    _require(factory)
    if options.endpoint is not None:
        if options.count != 1:
            raise BadInput("--endpoint names one device; for more give --endpoint-prefix")
        names = [options.endpoint]
    else:
        names = [f"{options.endpoint_prefix}{number:04d}" for number in range(1, options.count + 1)]
    return fleet.from_factory(options.factory_ca, options.factory_key, names)


def _psk_members(options: argparse.Namespace) -> list[Member]:
    if options.psk_file is None:
        raise BadInput("--mode psk needs --psk-file")
    if options.psk_identity is not None:
        if options.count != 1:
            raise BadInput(
                "--psk-identity names one device; for more give a --psk-file with lines identity:hexkey:endpoint"
            )
        return [fleet.with_psk(options.psk_identity, options.psk_file, options.endpoint)]
    if options.endpoint is not None:
        raise BadInput("--endpoint needs --psk-identity; the lines of --psk-file name their endpoints")
    members = fleet.from_psk_file(options.psk_file)
    if len(members) < options.count:
        raise BadInput(f"{options.psk_file} has {len(members)} devices, --count asks for {options.count}")
    return members[: options.count]


def _refuse(given: Mapping[str, object], beside: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise BadInput(f"{name} does not go with {beside}")


def _require(needed: dict[str, object]) -> None:
    for name, value in needed.items():
        if value is None:
            raise BadInput(f"{name} is missing beside {', '.join(other for other in needed if other != name)}")


def _run(options: argparse.Namespace) -> fleet.Run:
    faults = Faults(loss=options.loss, duplicate=options.duplicate, reorder=options.reorder)
    linger = options.linger if options.linger is not None else LOSSY_LINGER if faults != Faults() else 0.0
    over_tcp = izuma.over_tcp(options)
    if over_tcp and faults != Faults():
        raise BadInput("--loss, --duplicate and --reorder are faults of datagrams; TCP repeats by itself")
    return fleet.Run(
        server=read_server(options.server, options.server_ca, over_tcp=over_tcp),
        behaviour=izuma.behaviour(options) if options.mode == "izuma" else _behaviour(options),
        patience=Patience(handshake=options.handshake_timeout, server=options.timeout, attempts=options.attempts),
        trust=fleet.read_chain(options.trust) if options.trust else (),
        out=options.out,
        concurrency=options.concurrency,
        linger=linger,
        faults=faults,
        seed=options.seed,
        register=options.register,
    )


def _behaviour(options: argparse.Namespace) -> Behaviour:
    names = options.format or list(formats.FORMATS)
    taken = {formats.FORMATS[name] for name in names} | ({formats.TLV_OLD} if "tlv" in names else set())
    return Behaviour(
        version=options.lwm2m,
        account=options.account,
        send_endpoint=not options.no_endpoint_parameter,
        pct=_pct(options.pct),
        content_formats=frozenset(taken),
        pem="4.00" if options.der_only else "2.04",
        est="expects" if options.mode == "est" else "refuses" if options.no_est else "enrols",
        discover=not options.no_discover,
        finish_delay=2 * CoapParameters().empty_ack_after if options.separate_finish else 0.0,
        mtu=options.mtu,
        coap=CoapParameters(block_exponent=options.block_size.bit_length() - 5),
    )


def _pct(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise BadInput(f"--pct {text} is neither a number nor none")
    return int(text)
