"""The commands that go through the API, where something else listens or somebody may listen in."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer

from server.cli.remote.door import Door


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "api-key"
    file.write_text("ak_0123456789abcdef")
    return file


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers the same to everybody."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(request.param)))
            self.end_headers()
            self.wfile.write(request.param)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


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
