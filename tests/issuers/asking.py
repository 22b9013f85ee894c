"""The HTTP client of the adapters, opened on a peer or a name of the test, and how it fails."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address

import pytest

from issuers.errors import IssuerError
from issuers.http import HttpClient, read_url
from issuers.reach import IPAddress, Reach
from tests.issuers.rigs import LOOPBACK


class Names:
    """A DNS of the test's own; `asked` are the names in their order."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[IPAddress]:
        self.asked.append(host)
        return [ip_address(each) for each in (self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])]


@contextlib.asynccontextmanager
async def client(
    url: str, *, reach: Reach = LOOPBACK, tls: ssl.SSLContext | None = None, names: Names | None = None
) -> AsyncIterator[HttpClient]:
    """A client of this address, which may lie in our network."""
    opened = HttpClient(read_url(url, "'host_url'"), reach=reach, tls=tls, resolver=names)
    try:
        yield opened
    finally:
        await opened.aclose()


async def failure(opened: HttpClient, *, orders: bool = True, content: bytes = b"{}") -> IssuerError:
    """The error of a request that fails."""
    with pytest.raises(IssuerError) as raised:
        await opened.send("POST", "/sign", content=content, orders=orders)
    return raised.value
