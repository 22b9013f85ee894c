"""The commands that go through the API, where something else or another version listens, or somebody may listen in."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from server.cli.remote.commands import app
from server.cli.remote.door import Door
from tests import pki


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "api-key"
    file.write_text("ak_0123456789abcdef")
    return file


@contextmanager
def answering(answer: Callable[[str, str], tuple[int, bytes]]) -> Iterator[str]:
    """The address of a server that gives `answer` to a method and a path; status 0 ends the connection without one."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, body = answer(self.command, self.path.partition("?")[0])
            if not status:
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers the same to everybody."""
    with answering(lambda _method, _path: (200, request.param)) as url:
        yield url


@pytest.mark.parametrize(
    "elsewhere", [b"{}", b"[]", b"null", b"", b'{"data": {}}', b'{"data": []}', b"<html>"], indirect=True
)
def test_what_answers_and_is_no_firstlight_is_told_in_one_line(
    elsewhere: str, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        list(Door(elsewhere, key_file).rows("/v3/devices/"))
    said = capsys.readouterr().err
    assert "no Firstlight API" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://192.0.2.1:8080", True),
        ("HTTP://console.example.com", True),
        ("http://[2001:db8::1]:8080", True),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://localhost:8080", False),
        ("https://console.example.com", False),
        ("console.example.com", False),
    ],
)
def test_a_key_that_can_be_read_on_the_way_is_told(
    url: str, told: bool, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Door(url, key_file)
    assert ("in the clear" in capsys.readouterr().err) == told


# -- another version ---------------------------------------------------------------------------------------------


OLD = {"title": "Firstlight", "version": "0.0.9"}
NOTHING = {"data": [], "has_more": False}


def older(paths: Mapping[str, object], info: object = OLD) -> Callable[[str, str], tuple[int, bytes]]:
    """A Firstlight of another version, which knows these paths."""

    def answer(method: str, path: str) -> tuple[int, bytes]:
        known: Mapping[str, object] = {"/openapi.json": {"info": info}, **paths}
        if path in known:
            return 200, json.dumps(known[path]).encode()
        message = f"there is nothing at {path}"
        return 404, json.dumps({"object": "error", "code": 404, "message": message, "fields": []}).encode()

    return answer


def said(url: str, key_file: Path, *words: str, code: int) -> Any:
    """What a command told; its errors when it was to fail."""
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})
    result = runner.invoke(app, [*words, "--url", url, "--api-key-file", str(key_file)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stderr if code else result.stdout


DEVICE = {"id": "d1", "endpoint_name": "meter-1", "last_outcome": "bootstrapped", "profile": "meters"}
PATHS = {
    "/v3/devices/": {"data": [DEVICE], "has_more": False},
    "/v1/sessions": NOTHING,
    "/v1/certificates": NOTHING,
}


def test_a_device_is_shown_by_an_older_server_as_far_as_it_tells(key_file: Path) -> None:
    with answering(older(PATHS)) as url:
        assert said(url, key_file, "device", "show", "meter-1", code=0).splitlines() == [
            "meter-1  bootstrapped, profile meters",
            "  how it stands with EST is not told by Firstlight 0.0.9",
        ]
        shown = json.loads(said(url, key_file, "device", "show", "meter-1", "--json", code=0))
    assert (shown["endpoint_name"], shown["learned"], shown["est_offer"]) == ("meter-1", None, None)


def test_what_another_version_does_not_tell_is_one_line_with_both_versions(key_file: Path) -> None:
    ours = version("firstlight")
    lacking = {**PATHS, "/v3/devices/": {"data": [{"id": "d1", "endpoint_name": "meter-1"}], "has_more": False}}
    with answering(older(lacking)) as url:
        for words in (("device", "show", "meter-1"), ("device", "list")):
            told = said(url, key_file, *words, code=1)
            assert told.startswith(f"firstlight: {url} does not tell `last_outcome`, which this command needs: ")
            assert f"the server is Firstlight 0.0.9, and this program Firstlight {ours}; update the older one" in told
            assert told.count("\n") == 1
        told = said(url, key_file, "device", "seen", code=1)
        assert told.startswith(
            f"firstlight: {url} does not know GET /v1/seen: the server is Firstlight 0.0.9, and this"
        )
    with answering(older(lacking, info=None)) as url:
        assert "the server is no Firstlight that tells its version" in said(url, key_file, "device", "list", code=1)


def test_many_at_once_are_not_tried_one_by_one_where_the_server_cannot_take_them(
    key_file: Path, tmp_path: Path
) -> None:
    """They would be half there when one is refused, or the way to the server ends."""
    asked = []

    def answer(method: str, path: str) -> tuple[int, bytes]:
        asked.append(f"{method} {path}")
        return older({})(method, path)

    keys, pem = tmp_path / "keys.txt", tmp_path / "two.pem"
    keys.write_text("".join(f"id-{n}:{n:032x}:dev-{n}\n" for n in range(2)))
    pem.write_bytes(pki.make_factory_ca("First").pem + pki.make_factory_ca("Second").pem)
    with answering(answer) as url:
        told = said(url, key_file, "psk", "add", "--from", str(keys), code=1)
        assert "does not know POST /v1/pre-shared-keys-batch: the server is Firstlight 0.0.9" in told
        told = said(url, key_file, "trust", "add", str(pem), "--service", "bootstrap", code=1)
        assert "does not know POST /v1/trusted-certificates-batch: the server is Firstlight 0.0.9" in told
    assert [each for each in asked if not each.startswith("GET")] == [
        "POST /v1/pre-shared-keys-batch",
        "POST /v1/trusted-certificates-batch",
    ]


def test_more_keys_than_a_server_takes_are_not_sent(key_file: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("".join(f"id-{n}:{n:032x}:dev-{n}\n" for n in range(10_001)))
    told = said("http://127.0.0.1:1", key_file, "psk", "add", "--from", str(keys), code=1)
    assert "takes at most 10,000 keys at once over the API, and 10,001 were given: none was added" in told


def test_a_change_whose_answer_never_came_is_not_called_undone(key_file: Path) -> None:
    with answering(lambda method, _path: (200, json.dumps(NOTHING).encode()) if method == "GET" else (0, b"")) as url:
        told = said(url, key_file, "psk", "remove", "id", code=1)
        assert "whether it was done is not known: look before you give the command again" in told
        assert told.count("\n") == 1
    # Nothing was sent where nobody took the connection.
    assert "not known" not in said("http://127.0.0.1:1", key_file, "psk", "remove", "id", code=1)
