"""All that can be said against a configuration without a database and without opening anything: `check`."""

import contextlib
import os
from ipaddress import ip_address
from itertools import combinations
from pathlib import Path
from urllib.parse import urlsplit

from server import record
from server.addresses import address_and_port, host_and_port
from server.admin import first_start
from server.config import Config, ServerConfig
from server.errors import ConfigurationError, InTheClear
from server.reach import networks


def check(config: Config) -> None:
    """ConfigurationError naming the first setting that is wrong: no later start would find it right."""
    if not config.server.coaps:
        raise ConfigurationError("server.coaps: no address to listen on; give at least one HOST:PORT")
    _check_addresses(config.server)
    host, _ = host_and_port(config.server.http, "server.http")
    with contextlib.suppress(ValueError):
        # A name is looked up when it is bound.
        not_in_the_clear(config, str(ip_address(host)))
    networks(config.issuers.allow)
    first_start.check(config)
    _check_database(config)
    record.check_master_keys(config)
    _check_files(config)


def not_in_the_clear(config: Config, address: str) -> None:
    """InTheClear when keys would be shown to the network at `address` (design 3)."""
    if not (ip_address(address.partition("%")[0]).is_loopback or config.server.insecure_http):
        which = config.server.http if address in config.server.http else f"{config.server.http} ({address})"
        raise InTheClear(
            f"server.http: {which} is not a loopback address and plain http would show keys to the "
            "network; bind 127.0.0.1, or set server.insecure_http when a TLS proxy stands in front"
        )


def _check_addresses(server: ServerConfig) -> None:
    udp = [("server.coaps", text, address_and_port(text, "server.coaps")) for text in server.coaps]
    tcp = [("server.coaps_tcp", text, address_and_port(text, "server.coaps_tcp")) for text in server.coaps_tcp]
    host, port = host_and_port(server.http, "server.http")
    with contextlib.suppress(ValueError):
        ip_address(host)
        tcp.append(("server.http", server.http, (host, port)))
    for (setting, text, bound), (later, later_text, later_bound) in (*combinations(udp, 2), *combinations(tcp, 2)):
        if _meet(bound, later_bound):
            raise ConfigurationError(
                f"{later}: {later_text} is taken by {setting}, {text}, already; leave one out, or give it another port"
            )


def _meet(bound: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two sockets of one protocol would contend for an address; port 0 is another one each time."""
    host, other_host = ip_address(bound[0]), ip_address(other[0])
    if bound[1] != other[1] or bound[1] == 0 or host.version != other_host.version:
        return False
    return host == other_host or host.is_unspecified or other_host.is_unspecified


def _check_database(config: Config) -> None:
    url = record.database_url(config)
    if url is None:
        return
    with contextlib.suppress(ValueError):
        if urlsplit(url).scheme in ("postgresql", "postgres"):
            return
    file = config.database.url_file
    # What stands there may be a password.
    place = "database.url is" if file is None else f"{file}, the file of database.url_file, holds"
    raise ConfigurationError(f"{place} no URL of a PostgreSQL; write postgresql://USER:PASSWORD@HOST/DATABASE")


def _check_files(config: Config) -> None:
    data_dir = config.server.data_dir.absolute()
    there = next(each for each in (data_dir, *data_dir.parents) if os.path.exists(each))
    if not os.path.isdir(there):
        raise ConfigurationError(f"server.data_dir: {there} is no folder; give one, or the name of one to be made")
    ready, journal = config.server.ready_file, config.embedded_ca.journal_file
    if ready is not None:
        if os.path.exists(ready) and not os.path.isfile(ready) and not os.path.isdir(ready):
            raise ConfigurationError(
                f"server.ready_file: {ready} is a pipe or a device, which could not be put in place whole and taken "
                "away at the end; give a file"
            )
        _check_file(config, ready, "server.ready_file", replaced=True)
    if journal is not None:
        _check_file(config, journal, "embedded_ca.journal_file", replaced=False)


def _check_file(config: Config, file: Path, setting: str, *, replaced: bool) -> None:
    """That `file` can be written; what is to lie in the data folder is, as that is made at the start."""
    folder = file.parent
    if os.path.isdir(file):
        why = "it is a folder"
    elif not os.path.isdir(folder):
        if folder.resolve() == config.server.data_dir.resolve():
            return
        why = f"{folder} is no folder" if os.path.exists(folder) else f"there is no folder {folder}"
    elif not (os.access(folder, os.W_OK) if replaced or not os.path.exists(file) else os.access(file, os.W_OK)):
        why = "Permission denied"
    else:
        return
    raise ConfigurationError(
        f"{setting}: {file} cannot be written ({why}); give a file in a folder that exists and that this user may write"
    )
