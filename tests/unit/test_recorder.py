"""The flight recorder over more than one bootstrap of an association: recorder.py, and outcomes.py where it ends."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

from lwm2m.bootstrap_request import parse_bootstrap_request
from lwm2m.coap.parameters import Parameters
from lwm2m.coap.tape import MOST_SESSIONS, Tape
from lwm2m.plan import Credential, Learned
from lwm2m.steps import Done, Failed, FailureCause
from server import recorder, transcripts
from server.config import RecorderConfig
from server.metrics import Metrics
from server.outcomes import Outcome, Outcomes
from server.policy import Admitted
from server.profile import default_profile, parse_profile
from server.recorder import TapedSession
from server.store.writer import RecordTranscript
from tests import pki

KEY = b"the private key of the device, made here"
CREDENTIAL = Credential(chain=(b"certificate",), private_key_pkcs8=KEY)


def admitted() -> Admitted:
    text, files = default_profile("coaps://lwm2m.example:5684"), {"server-ca.pem": pki.make_factory_ca().pem}
    return Admitted(
        account_id=uuid4(),
        endpoint="device-1",
        request=parse_bootstrap_request(("ep=device-1",)),
        profile=parse_profile(text, files, name="default"),
    )


def tape(limit: int = 65536) -> Tape[TapedSession]:
    return Tape(Parameters(), 1, b"t", lambda: 0.5, limit)


def bootstrap(recording: Tape[TapedSession], device: Admitted, *, verdict: Done | Failed) -> None:
    """What a session notes of one bootstrap, as far as secrets and sizes go."""
    recorder.began(recording, device, Learned(), {0: CREDENTIAL}, ())
    recorder.started(recording, 1.0)
    recorder.supplied(recording, 1, CREDENTIAL, 1.0)
    recording.body(b"written: " + KEY)
    recording.draw()
    recording.sent(1.0, bytes(200))
    recorder.ended(recording, verdict, 1.0)


class Written:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[object] = []

    def write(self, row: object) -> "asyncio.Future[None]":
        self.rows.append(row)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    @property
    def transcripts(self) -> list[RecordTranscript]:
        return [row for row in self.rows if isinstance(row, RecordTranscript)]


async def ended(recording: Tape[TapedSession], verdict: Done | Failed) -> Written:
    """What is written down when a bootstrap on `recording` ends with `verdict`."""
    writer = Written()
    outcomes = Outcomes(
        writer=cast(Any, writer), now=lambda: datetime.now(UTC), metrics=Metrics(), recorder=RecorderConfig()
    )
    await outcomes.write(
        Outcome(
            session_id=uuid4(),
            account_id=uuid4(),
            endpoint="device-1",
            profile="default",
            credential="psk",
            address="192.0.2.1:40000",
            started_at=datetime.now(UTC),
            seconds=0.1,
            verdict=verdict,
            tape=recording,
        )
    )
    return writer


RESET = Failed(FailureCause.RESET, "/0/0", None)


async def test_after_a_success_nothing_of_a_later_bootstrap_on_the_association_is_kept() -> None:
    recording, device = tape(), admitted()
    bootstrap(recording, device, verdict=Done())
    await ended(recording, Done())
    bootstrap(recording, device, verdict=RESET)
    assert KEY not in everything(recording)
    assert (recording.sessions, recording.draws) == ([], [])
    # Without what came before it could not be run again, and would take the place of an attempt that can.
    assert (await ended(recording, RESET)).transcripts == []


async def test_a_device_that_fails_again_and_again_on_one_association_is_recorded_up_to_a_bound() -> None:
    recording, device = tape(limit=1 << 30), admitted()
    sizes = []
    for _ in range(3 * MOST_SESSIONS):
        bootstrap(recording, device, verdict=RESET)
        (row,) = (await ended(recording, RESET)).transcripts
        assert KEY not in everything(recording)
        sizes.append(len(row.content))
    assert len(recording.sessions) == MOST_SESSIONS
    assert sizes[MOST_SESSIONS - 2] < sizes[MOST_SESSIONS - 1]
    document = json.loads(row.content)
    assert len(document["sessions"]) == sum(entry.get("event") == "start" for entry in document["entries"])
    assert document["dropped"] > 0
    # What is told of what was dropped is a number.
    assert sizes[-1] - sizes[MOST_SESSIONS] < 20
    assert transcripts.read(row.content).dropped == document["dropped"]


async def test_of_a_bootstrap_that_came_when_the_tape_was_full_no_secret_is_kept() -> None:
    recording, device = tape(limit=100), admitted()
    bootstrap(recording, device, verdict=RESET)
    await ended(recording, RESET)
    bootstrap(recording, device, verdict=RESET)
    assert KEY not in everything(recording)
    assert len(recording.sessions) == 1
    assert len(recording.draws) == 1


def everything(recording: Tape[TapedSession]) -> bytes:
    """All bytes a tape holds."""
    held = [
        *recording._bodies,
        *(body for body, _ in recording._heard),
        *(secret for secrets in recording._secrets for secret in secrets),
    ]
    for session in recording.sessions:
        held += [
            each.private_key_pkcs8
            for each in (*session.credentials.values(), *session.later.values())
            if isinstance(each, Credential)
        ]
    return b"|".join(held)
