"""The way to a server's API: one key, one address, and every refusal as one line."""

import re
import ssl
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import httpx
import typer

from issuers.tls import tls_context
from server.admin.files import read_bytes
from server.admin.naming import not_one
from server.admin.trust import parse
from server.cli import options
from server.doubt import Doubt
from server.errors import BadRequest

Url = Annotated[
    str,
    typer.Option(
        "--url",
        help="Address of the server's API: https://HOST:PORT.",
        show_default=False,
        rich_help_panel=options.WHICH_SERVER,
    ),
]
ApiKeyFile = Annotated[
    Path,
    typer.Option(
        "--api-key-file",
        exists=True,
        dir_okay=False,
        help="File with an API key of that server.",
        show_default=False,
        rich_help_panel=options.WHICH_SERVER,
    ),
]

CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        readable=False,
        help="PEM file of the CAs to trust for https, instead of those that this machine trusts.",
        show_default=False,
        rich_help_panel=options.WHICH_SERVER,
    ),
]

# A verification may take the CA's whole patience.
SECONDS = 120.0
PAGE = 1000

Row = Mapping[str, Any]


def doubts_in(answer: Row) -> list[Doubt]:
    """What an answer warns of."""
    return [Doubt(each["kind"], each["message"], each["next_step"]) for each in answer.get("warnings", ())]


def _to_do(words: str) -> str:
    """What to do about a connection that came to nothing, by the words of the library."""
    if "WRONG_VERSION_NUMBER" in words or "RECORD_LAYER" in words:
        return "nothing speaks TLS there: write http:// if it is the server's own address"
    if "missing an 'http" in words:
        return "write --url with http:// or https:// in front"
    if "disconnected" in words:
        return "something else listens there, or it speaks TLS: check --url, perhaps https://"
    return "check --url and that the server runs"


def _untrusted(error: BaseException | None) -> str | None:
    """Why the server's certificate was refused, and what to do; None when something else went wrong."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    reason = error.verify_message
    if "mismatch" in reason or "not valid for" in reason:
        remedy = "write --url with a name that stands in it"
    elif "expired" in reason or "not yet valid" in reason:
        remedy = "renew it, and compare the clocks"
    else:
        remedy = "if its CA is one of your own, give that CA's certificate with --ca-file FILE (PEM)"
    return f"the certificate it shows is not trusted: {reason}, and the key was not sent; {remedy}"


def _is_in_the_clear(url: str) -> bool:
    """Whether a key that goes to `url` can be read on the way."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme == "http" and host != "localhost" and not ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        # A name, of whatever address; what is no URL at all is told when it is asked.
        return url.lower().startswith("http://")


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    """TLS that trusts the certificates of `ca_file`, or the public CAs and those of this machine; BadRequest."""
    if ca_file is None:
        return tls_context((), None)
    content = read_bytes(ca_file)
    try:
        return tls_context(parse(content), None)
    except BadRequest as error:
        raise BadRequest(f"--ca-file {ca_file}: {error.message}") from error


def _names_no_operation(answer: httpx.Response) -> bool:
    """Whether a Firstlight says that it has no such path, or nothing that can be done there so."""
    if answer.status_code not in (404, 405):
        return False
    try:
        message = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return False
    # Else it is the thing that is not there (server/api/problems.py).
    return answer.status_code == 405 or message.startswith("there is nothing at /")


class Told(dict[str, Any]):
    """An object of an answer; whoever needs a field that it lacks is told which versions do not go together."""

    # None of a copy, which is what a command made of it.
    door: "Door | None" = None

    def __missing__(self, field: str) -> NoReturn:
        if self.door is None:
            raise KeyError(field)
        self.door.lacks(field)


# As the API makes them and asks for them (server/api/access.py).
_is_key = re.compile(r"ak_[!-~]{1,500}").fullmatch


class Door:
    """The API of one server; what it refuses ends the command with its own words."""

    def __init__(self, url: str, key_file: Path, ca_file: Path | None = None) -> None:
        try:
            key = key_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = "it is no text" if isinstance(error, UnicodeDecodeError) else error.strerror
            options.fail(
                f"{key_file} cannot be read as an API key ({why}); give the file that the first start made in the "
                "data folder, or one with what `firstlight api-key add` printed"
            )
        # What stands in the file may be another secret: a library would put it into its words.
        if not _is_key(key):
            options.fail(
                f"{key_file} holds no API key, which is one line that begins with ak_; give the file that the first "
                "start made in the data folder, or one with what `firstlight api-key add` printed"
            )
        self._url = url.rstrip("/")
        if _is_in_the_clear(url):
            print(
                f"firstlight: the API key goes to {self._url} in the clear, for everybody on the way to read; give an "
                "https:// address, and a new key to this one",
                file=sys.stderr,
            )
        self._headers = {"Authorization": f"Bearer {key}"}
        self._tls = options.expected(lambda: _trusting(ca_file))

    def ask(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """The body of the answer, None when there is none."""
        answer = self._answer(method, path, body, query)
        if answer.is_success:
            return self._read(answer)
        if _names_no_operation(answer):
            options.fail(self._of_another_version(f"does not know {method} {path}"))
        return options.fail(self._refusal(answer))

    def _answer(self, method: str, path: str, body: object, query: Mapping[str, object]) -> httpx.Response:
        given = {name: str(value) for name, value in query.items() if value is not None}
        try:
            # A proxy of the environment has no business with the key.
            with httpx.Client(verify=self._tls, timeout=SECONDS, trust_env=False) as client:
                return client.request(method, self._url + path, json=body, params=given, headers=self._headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            untrusted = _untrusted(error)
            if untrusted is not None:
                options.fail(f"{self._url} cannot be asked: {untrusted}")
            sent = isinstance(error, httpx.TransportError) and not isinstance(
                error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol
            )
            unknown = "; whether it was done is not known: look before you give the command again"
            doubt = unknown if sent and method != "GET" else ""
            options.fail(f"{self._url} cannot be asked ({error}); {_to_do(str(error))}{doubt}")

    def _read(self, answer: httpx.Response) -> Any:
        try:
            return answer.json(object_hook=self._told) if answer.content else None
        except ValueError:
            return options.fail(f"{self._url} answered {answer.status_code} and is no Firstlight API; check --url")

    def _told(self, fields: Mapping[str, Any]) -> Told:
        told = Told(fields)
        told.door = self
        return told

    def _refusal(self, answer: httpx.Response) -> str:
        try:
            read: Any = answer.json()
            return options.with_option(str(read["message"]), "".join(f["field"] for f in read["fields"][:1]))
        except (ValueError, KeyError, TypeError):
            return f"{self._url} answered {answer.status_code} and is no Firstlight API; check --url"

    def get_if_known(self, path: str) -> Row | None:
        """One thing; None when the server's version has no such path."""
        answer = self._answer("GET", path, None, {})
        if _names_no_operation(answer):
            return None
        if not answer.is_success:
            options.fail(self._refusal(answer))
        return self._one_thing(self._read(answer))

    def lacks(self, field: str) -> NoReturn:
        """End the command, whose server does not tell `field`."""
        options.fail(self._of_another_version(f"does not tell `{field}`, which this command needs"))

    @property
    def version(self) -> str:
        """Which Firstlight the server is, in words."""
        try:
            info = self._answer("GET", "/openapi.json", None, {}).json()["info"]
            return f"Firstlight {info['version']}" if info["title"] == "Firstlight" else "no Firstlight"
        except (ValueError, KeyError, TypeError):
            return "no Firstlight that tells its version"

    def _of_another_version(self, what: str) -> str:
        return (
            f"{self._url} {what}: the server is {self.version}, and this program Firstlight {version('firstlight')}; "
            "update the older one, or use the `firstlight` of the server's own version"
        )

    def problems(self) -> list[str]:
        """Why the server would not serve devices now (`/readyz`), empty when it would."""
        answer = self._answer("GET", "/readyz", None, {})
        if not answer.is_success and answer.status_code != 503:
            options.fail(self._refusal(answer))
        ready = self._read(answer)
        problems = ready.get("problems") if isinstance(ready, dict) else None
        if not isinstance(problems, list):
            self._is_foreign()
        return [str(problem) for problem in problems]

    def get(self, path: str, **query: object) -> Row:
        """One thing."""
        return self._one_thing(self.ask("GET", path, **query))

    def _one_thing(self, found: object) -> Row:
        if not isinstance(found, dict):
            self._is_foreign()
        return found

    def rows(self, path: str, *, most: int | None = None, **query: object) -> Iterator[Row]:
        """A list, page by page."""
        after: str | None = None
        left = most
        while left is None or left > 0:
            limit = PAGE if left is None else min(left, PAGE)
            page = self.get(path, limit=max(limit, 2), after=after, **query)
            data, more = page.get("data"), page.get("has_more")
            if not isinstance(data, list) or not isinstance(more, bool):
                self._is_foreign()
            data = data if left is None else data[:left]
            yield from data
            if not more or not data:
                return
            after = data[-1]["id"]
            left = None if left is None else left - len(data)

    def _is_foreign(self) -> NoReturn:
        options.fail(f"{self._url} answers as no Firstlight API does; check --url")

    def one(self, path: str, word: str, what: str, command: str, *names: str) -> Row:
        """The one row, of those `command` lists, whose name is `word`, or whose id or another of `names` begins so."""
        rows = list(self.rows(path))
        found = [row for row in rows if row["name"] == word] or [
            row for row in rows if word and any(str(row[name]).startswith(word) for name in ("id", *names))
        ]
        if len(found) != 1:
            apart = [
                (str(row["id"]), f"{row['name']}, service {row['service']}" if "service" in row else str(row["name"]))
                for row in found
            ]
            options.fail(not_one(word, what, f"`firstlight {command} list`", apart))
        return found[0]
