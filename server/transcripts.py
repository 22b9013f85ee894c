"""Transcripts as JSON: one attempt of a device, decrypted and redacted, complete enough to be run again.

`write` makes what is stored, `shown` adds words for people, `read` takes either back.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from typing import Any
from uuid import UUID

from lwm2m.coap.message import MAX_TOKEN
from lwm2m.coap.parameters import Parameters
from lwm2m.coap.tape import (
    Abandoned,
    Answered,
    Cancelled,
    Ended,
    Entry,
    Received,
    Requested,
    Sent,
    Started,
    Supplied,
    Tape,
)
from lwm2m.plan import Credential, Learned, PskCredential
from lwm2m.replay import Recording, SessionInputs, describe
from lwm2m.text import escaped
from server.errors import BadRequest
from server.izuma import fitted
from server.profile import ProfileError, parse_profile
from server.recorder import Held, TapedSession

FORMAT = 1
# Of a payload or a secret in a transcript that is read.
MOST_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """A transcript that was read: `about` says whose attempt it was and how it ended."""

    about: Mapping[str, Any]
    version: str
    dropped: int
    recording: Recording = field(repr=False)


def write(tape: Tape[TapedSession], about: Mapping[str, object]) -> str:
    """The transcript of what is on `tape`, which holds no secret from here on."""
    entries = tape.entries()
    for session in tape.sessions:
        session.blank()
    first = entries[0].at if entries else 0.0
    return json.dumps(
        {
            "format": FORMAT,
            "firstlight": version("firstlight"),
            "about": about,
            "parameters": asdict(tape.parameters),
            "first_mid": tape.first_mid,
            "token_seed": tape.token_seed.hex(),
            "draws": tape.draws,
            "sessions": [_session(session) for session in tape.sessions],
            "dropped": tape.dropped,
            "entries": [_entry(entry, first) for entry in entries],
        },
        separators=(",", ":"),
    )


def shown(stored: str) -> dict[str, Any]:
    """A stored transcript with each datagram in words too."""
    document: dict[str, Any] = json.loads(stored)
    for entry in document["entries"]:
        if "datagram" in entry:
            entry["says"] = describe(bytes.fromhex(entry["datagram"]))
    return document


def read(text: str) -> Transcript:
    """Read a transcript; BadRequest names what is wrong with it."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"this is no transcript: it is no JSON ({error})") from error
    try:
        if document["format"] != FORMAT:
            raise BadRequest(
                f"transcripts of format {document['format']!r} cannot be read, only those of format {FORMAT}"
            )
        recording = Recording(
            parameters=_parameters(document["parameters"]),
            first_mid=_whole(document["first_mid"], 0xFFFF),
            token_seed=_seed(document["token_seed"]),
            draws=tuple(float(_number(draw)) for draw in document["draws"]),
            sessions=tuple(_inputs(session) for session in document["sessions"]),
            entries=tuple(_read_entry(entry) for entry in document["entries"]),
        )
        return Transcript(
            about=dict(document["about"]),
            version=str(document["firstlight"]),
            dropped=int(document["dropped"]),
            recording=recording,
        )
    except KeyError as error:
        raise BadRequest(f"this is no whole transcript: {error} is missing") from error
    except ProfileError as error:
        # In one line, whatever the name of the profile is.
        raise BadRequest(f"this transcript's {' '.join(str(error).split())}") from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise BadRequest(f"this is no whole transcript: {type(error).__name__} {error}") from error


def _parameters(recorded: Mapping[str, Any]) -> Parameters:
    """What is newer than the transcript has its default; what only a newer version knows, this one cannot follow."""
    if unknown := sorted(set(recorded) - {f.name for f in fields(Parameters)}):
        raise BadRequest(f"this transcript has a parameter that this version does not know: {', '.join(unknown)!r}")
    return Parameters(**{name: _number(value) for name, value in recorded.items()})


# -- sessions ---------------------------------------------------------------------------------------------------------


def _session(session: TapedSession) -> dict[str, object]:
    profile = session.profile
    return {
        "profile": {
            "name": profile.name,
            "toml": profile.toml,
            "files": {name: content.hex() for name, content in profile.files.items()},
        },
        "learned": session.learned.as_json(),
        "asked_for_pack": session.asked_for_pack,
        "finish_query": session.finish_query,
        "izuma": session.izuma.hex if session.izuma is not None else None,
        "credentials": {str(index): _held(held) for index, held in session.credentials.items()},
        "later": {str(index): _held(held) for index, held in session.later.items()},
    }


def _held(held: Held) -> dict[str, object]:
    if isinstance(held, Credential):
        return {"chain": [one.hex() for one in held.chain], "key_bytes": len(held.private_key_pkcs8)}
    return {"identity_bytes": len(held.identity), "key_bytes": len(held.key)}


def _inputs(session: Mapping[str, Any]) -> SessionInputs:
    profile = session["profile"]
    files = {name: bytes.fromhex(content) for name, content in profile["files"].items()}
    plan = parse_profile(profile["toml"], files, name=profile["name"]).plan
    return SessionInputs(
        plan=plan if session["izuma"] is None else fitted(plan, UUID(session["izuma"])),
        learned=Learned.from_json(session["learned"]),
        asked_for_pack=session["asked_for_pack"] is True,
        finish_query=tuple(map(str, session["finish_query"])),
        credentials={int(index): _read_held(held) for index, held in session["credentials"].items()},
        later={int(index): _read_held(held) for index, held in session["later"].items()},
    )


def _read_held(held: Mapping[str, Any]) -> Held:
    key = bytes(_whole(held["key_bytes"], MOST_BYTES))
    if "chain" in held:
        return Credential(chain=tuple(bytes.fromhex(one) for one in held["chain"]), private_key_pkcs8=key)
    return PskCredential(identity=bytes(_whole(held["identity_bytes"], MOST_BYTES)), key=key)


def _whole(value: object, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{value!r} where a number from 0 to {most} stands")
    return value


def _number(value: object) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"{value!r} where a number stands")
    return value


def _word(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r} where a text stands")
    return value


def _seed(value: str) -> bytes:
    seed = bytes.fromhex(value)
    if not 1 <= len(seed) <= MAX_TOKEN:
        raise ValueError(f"a token seed of {len(seed)} bytes")
    return seed


# -- entries ----------------------------------------------------------------------------------------------------------


def _entry(entry: Entry, first: float) -> dict[str, object]:
    row: dict[str, object] = {"at": round(entry.at - first, 6)}
    match entry:
        case Received():
            row |= {"from": "device", "datagram": entry.datagram.hex()}
        case Sent():
            row |= {"from": "server", "datagram": entry.datagram.hex()}
        case Answered():
            options = [[number, value.hex()] for number, value in entry.options]
            row |= {"answer": entry.request_id, "code": entry.code, "options": options, "bytes": entry.payload_size}
        case Abandoned():
            row["abandon"] = entry.request_id
        case Requested():
            row["event"] = "request"
        case Cancelled():
            row["event"] = "cancel"
        case Started():
            row["event"] = "start"
        case Supplied():
            row["supply"] = entry.index
        case Ended():
            row |= {"event": "end", "cause": entry.cause, "path": entry.path, "code": entry.code}
    return row


def _read_entry(row: Mapping[str, Any]) -> Entry:
    at = float(_number(row["at"]))
    if "datagram" in row:
        datagram = bytes.fromhex(row["datagram"])
        match row["from"]:
            case "device":
                return Received(at, datagram)
            case "server":
                return Sent(at, datagram)
            case other:
                raise ValueError(f"a datagram from {other!r}")
    if "answer" in row:
        options = tuple((_whole(number, 0xFFFF), bytes.fromhex(value)) for number, value in row["options"])
        request_id, code = _whole(row["answer"], 2**31), _whole(row["code"], 0xFF)
        return Answered(at, request_id, code, options, _whole(row["bytes"], MOST_BYTES))
    if "abandon" in row:
        return Abandoned(at, _whole(row["abandon"], 2**31))
    if "supply" in row:
        return Supplied(at, _whole(row["supply"], 2**31))
    match row["event"]:
        case "request":
            return Requested(at)
        case "cancel":
            return Cancelled(at)
        case "start":
            return Started(at)
        case "end":
            failed_with = None if row["code"] is None else _whole(row["code"], 0xFF)
            return Ended(at, _word(row["cause"]), _word(row["path"]), failed_with)
        case other:
            raise ValueError(f"an event {other!r}")


def text(document: Mapping[str, Any]) -> Sequence[str]:
    """A shown transcript as printable lines for people, whoever wrote it."""
    lines: list[str] = []
    for entry in document["entries"]:
        at = f"{entry['at'] * 1000:10.1f} ms"
        match entry:
            case {"from": "device", "says": says}:
                lines.append(f"{at}  <- {says}")
            case {"from": "server", "says": says}:
                lines.append(f"{at}  -> {says}")
            case {"event": "end", "cause": cause}:
                lines.append(f"{at}  == {cause or 'succeeded'}")
            case {"event": "start"}:
                lines.append(f"{at}  == session")
            case _:
                pass
    if dropped := document.get("dropped"):
        lines.append(f"{dropped} more datagrams and events were not kept (settings [recorder] kilobytes)")
    return [escaped(line) for line in lines]
