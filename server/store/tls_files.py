"""The files that `database.url` names for TLS: what is wrong with them is told as that, before anything is sent."""

import contextlib
import os
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import asyncpg

from server.store.errors import StoreRefused

NAMES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


@contextlib.contextmanager
def checked(url: str) -> Iterator[None]:
    """Connect inside. StoreRefused when a file is not there, or when the certificate is to lead to a CA of no file."""
    named = parse_qs(urlsplit(url).query)
    for name in NAMES:
        for file in named.get(name, ()):
            if not os.access(file, os.R_OK):
                raise StoreRefused(
                    f"database.url names {file} as {name}, and there is no such file that this user may read; "
                    "correct the name, or give the file to this user"
                )
    try:
        yield
    except asyncpg.ClientConfigurationError as error:
        reason = " ".join(str(error).split())
        raise StoreRefused(
            f"the database's URL cannot be used ({reason}); check database.url. With sslmode=verify-full it also names "
            "the CA of the database's certificate: sslrootcert=FILE"
        ) from error
