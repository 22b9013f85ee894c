"""Transcripts as JSON: one attempt of a device, decrypted and redacted, complete enough to be run again.

`write` makes what is stored, `shown` adds words for people, `read` takes either back.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from typing import Any, TypeVar

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
from server.errors import BadRequest
from server.profile import ProfileError, parse_profile
from server.recorder import Held, TapedSession

FORMAT = 1
_T = TypeVar("_T")


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
                f"transcripts of format {document['format']} cannot be read, only those of format {FORMAT}"
            )
        known = {f.name for f in fields(Parameters)}
        recording = Recording(
            # What a later version adds has its default here, and the other way round.
            parameters=Parameters(**{k: v for k, v in document["parameters"].items() if k in known}),
            first_mid=document["first_mid"],
            token_seed=bytes.fromhex(document["token_seed"]),
            draws=tuple(map(float, document["draws"])),
            sessions=tuple(_inputs(session) for session in document["sessions"]),
            entries=tuple(_read_entry(entry) for entry in document["entries"]),
        )
        return Transcript(
            about=dict(document["about"]),
            version=str(document["firstlight"]),
            dropped=int(document["dropped"]),
            recording=recording,
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ProfileError) as error:
        raise BadRequest(f"this is no whole transcript: {type(error).__name__} {error}") from error


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
    return SessionInputs(
        plan=parse_profile(profile["toml"], files, name=profile["name"]).plan,
        learned=Learned.from_json(session["learned"]),
        asked_for_pack=session["asked_for_pack"] is True,
        finish_query=tuple(map(str, session["finish_query"])),
        credentials={int(index): _read_held(held) for index, held in session["credentials"].items()},
        later={int(index): _read_held(held) for index, held in session["later"].items()},
    )


def _read_held(held: Mapping[str, Any]) -> Held:
    key = bytes(_size(held["key_bytes"]))
    if "chain" in held:
        return Credential(chain=tuple(bytes.fromhex(one) for one in held["chain"]), private_key_pkcs8=key)
    return PskCredential(identity=bytes(_size(held["identity_bytes"])), key=key)


def _size(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= 65536:
        raise ValueError(f"a size of {value}")
    return value


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
    at = float(row["at"])
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
        options = tuple((int(number), bytes.fromhex(value)) for number, value in row["options"])
        return Answered(at, row["answer"], row["code"], options, _size(row["bytes"]))
    if "abandon" in row:
        return Abandoned(at, row["abandon"])
    if "supply" in row:
        return Supplied(at, row["supply"])
    match row["event"]:
        case "request":
            return Requested(at)
        case "cancel":
            return Cancelled(at)
        case "start":
            return Started(at)
        case "end":
            return Ended(at, row["cause"], row["path"], row["code"])
        case other:
            raise ValueError(f"an event {other!r}")


def text(document: Mapping[str, Any]) -> Sequence[str]:
    """A shown transcript as lines for people."""
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
    return lines
