"""Transcripts that an earlier version recorded (`vectors/transcript-VERSION-….json`) and this one reads and replays.

They are never recorded anew: where this version does something else on purpose, its test says which difference that is.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lwm2m.coap.message import FORBIDDEN, PUT, decode
from lwm2m.replay import Difference, replay
from server import transcripts
from server.cli.commands import main

FOLDER = Path(__file__).parents[1] / "vectors"
# Both wrote a certificate and its key as TLV; the second device refused them.
SUCCEEDED = "transcript-0.1.0-x509-tlv-succeeded.json"
WRITE_REFUSED = "transcript-0.1.0-x509-tlv-write-refused.json"
OLD = [SUCCEEDED, WRITE_REFUSED]


def old(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return document


def differences(document: dict[str, Any]) -> list[Difference]:
    return replay(transcripts.read(json.dumps(document)).recording)


Replayed = Callable[[dict[str, Any]], tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "t.json"


@pytest.fixture
def replayed(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Replayed:
    """Exit code, standard output and standard error of `firstlight replay` of a transcript in `file`."""

    def command(document: dict[str, Any]) -> tuple[int, str, str]:
        file.write_text(json.dumps(document))
        monkeypatch.setattr("sys.argv", ["firstlight", "replay", str(file)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return command


def test_every_old_transcript_is_replayed_here() -> None:
    assert sorted(file.name for file in FOLDER.glob("transcript-*")) == sorted(OLD)


def test_this_version_does_what_the_old_one_did(replayed: Replayed) -> None:
    assert differences(old(SUCCEEDED)) == []
    code, said, _ = replayed(old(SUCCEEDED))
    assert code == 0
    assert said.startswith("This version does the same")


def test_an_instance_that_takes_no_write_is_deleted_and_written_anew_where_the_old_version_gave_up() -> None:
    first, *_ = differences(old(WRITE_REFUSED))
    assert first.recorded == "it failed: write_refused at /0/1 with 4.05"
    assert first.now == "is not at its end: it sends delete /0/1"


@pytest.mark.parametrize("name", OLD)
def test_an_old_transcript_holds_zeros_for_the_key(name: str) -> None:
    document = old(name)
    written = [decode(bytes.fromhex(row["datagram"])) for row in document["entries"] if row.get("from") == "server"]
    body = b"".join(message.payload for message in written if message.code == PUT)
    assert bytes(document["sessions"][0]["credentials"]["0"]["key_bytes"]) in body


# -- what was changed is listed, not refused ----------------------------------------------------------------------


def _last(document: dict[str, Any], side: str, says: str) -> dict[str, Any]:
    found: dict[str, Any] = [row for row in document["entries"] if row.get("from") == side and says in row["says"]][-1]
    return found


def another_answer(document: dict[str, Any]) -> None:
    row = _last(document, "device", "2.04 block1")
    datagram = bytearray.fromhex(row["datagram"])
    datagram[1] = FORBIDDEN
    row["datagram"] = datagram.hex()


def another_byte_written(document: dict[str, Any]) -> None:
    row = _last(document, "server", "PUT /1/0")
    row["datagram"] = row["datagram"][:-2] + "ff"


def a_step_less(document: dict[str, Any]) -> None:
    """The delete of /1: the request, its datagram and the answer."""
    rows = document["entries"]
    at = next(at for at, row in enumerate(rows) if "DELETE /1" in row.get("says", ""))
    assert (rows[at - 1]["event"], rows[at + 1]["from"]) == ("request", "device")
    del rows[at - 1 : at + 2]


def another_end(document: dict[str, Any]) -> None:
    document["entries"][-1] |= {"cause": "no_answer", "path": "/1/0"}


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (another_answer, "does not: it failed: write_refused at /0/1 with 4.03"),
        (another_byte_written, "from byte "),
        (a_step_less, "DELETE /1"),
        (another_end, "it succeeded"),
    ],
    ids=lambda given: given.__name__ if callable(given) else "",
)
def test_what_was_changed_in_an_old_transcript_is_listed(
    change: Callable[[dict[str, Any]], None], shown: str, replayed: Replayed
) -> None:
    document = old(SUCCEEDED)
    change(document)
    assert shown in differences(document)[0].now
    code, said, refused = replayed(document)
    assert (code, refused) == (1, "")
    assert shown in " ".join(said.split())


# -- what another version has -------------------------------------------------------------------------------------


def test_a_parameter_that_is_newer_than_the_transcript_has_its_default() -> None:
    document = old(SUCCEEDED)
    del document["parameters"]["busy_seconds"]
    assert differences(document) == []


def _profile(document: dict[str, Any], text: str, instead: str) -> None:
    kept = document["sessions"][0]["profile"]
    assert text in kept["toml"]
    kept["toml"] = kept["toml"].replace(text, instead)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda new: new["parameters"].update(patience=3), "a parameter that this version does not know: 'patience'"),
        (lambda new: new.update(format=2), "transcripts of format 2 cannot be read, only those of format 1"),
        (lambda new: new.update(format="a\nb"), "transcripts of format 'a\\nb' cannot be read"),
        (lambda new: new.pop("parameters"), "'parameters' is missing"),
        (lambda new: new["sessions"][0].pop("profile"), "'profile' is missing"),
        (lambda new: new["sessions"][0]["credentials"]["0"].pop("key_bytes"), "'key_bytes' is missing"),
        (
            lambda new: _profile(new, "[bootstrap]", "[bootstrap]\nhaste = 3"),
            "profile tlv: [bootstrap].haste is unknown",
        ),
        (lambda new: _profile(new, "short_server_id = 123\nmode", "mode"), "short_server_id is missing"),
        (lambda new: new["sessions"][0]["profile"].update(name="a\nb", toml="["), "profile a b: is not valid TOML"),
    ],
)
def test_what_is_unknown_or_missing_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], object], words: str, file: Path, replayed: Replayed
) -> None:
    document = old(SUCCEEDED)
    change(document)
    code, said, refused = replayed(document)
    assert (code, said) == (1, "")
    assert refused.startswith(f"firstlight: {file}: ")
    assert words in refused
    assert refused.count("\n") == 1
