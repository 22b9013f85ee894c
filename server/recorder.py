"""The flight recorder's notes of a session, beside what `lwm2m/coap/tape.py` holds of its association.

Each function takes None for an association that is not recorded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from lwm2m.coap.tape import Ended, Started, Supplied, Tape
from lwm2m.plan import Credential, Learned, PskCredential
from lwm2m.steps import Done, Failed
from server.policy import Admitted
from server.profile import Profile

Held: TypeAlias = Credential | PskCredential


@dataclass(slots=True)
class TapedSession:
    """What a session began with; `later` came when it was asked for."""

    profile: Profile
    learned: Learned
    asked_for_pack: bool
    finish_query: tuple[str, ...]
    # Of an Izuma client, whose plan is fitted to its account.
    izuma: UUID | None
    credentials: Mapping[int, Held] = field(repr=False)
    later: dict[int, Held] = field(default_factory=dict, repr=False)

    def blank(self) -> None:
        """Forget every secret, sizes are kept."""
        self.credentials = {index: blanked(held) for index, held in self.credentials.items()}
        self.later = {index: blanked(held) for index, held in self.later.items()}


def began(
    tape: Tape[TapedSession] | None,
    admitted: Admitted,
    learned: Learned,
    credentials: Mapping[int, Held],
    finish_query: tuple[str, ...],
) -> None:
    """A session is about to begin with these."""
    if tape is not None:
        izuma = admitted.account_id if admitted.izuma else None
        asked_for_pack = admitted.request.asked_for_pack
        tape.begin(TapedSession(admitted.profile, learned, asked_for_pack, finish_query, izuma, dict(credentials)))
        for held in credentials.values():
            _conceal(tape, held)


def started(tape: Tape[TapedSession] | None, at: float) -> None:
    """Its first step is taken now."""
    if tape is not None:
        tape.note(Started, at)


def supplied(tape: Tape[TapedSession] | None, index: int, credential: Held, at: float) -> None:
    """It got a credential that it had asked for."""
    if tape is not None and tape.sessions and not tape.is_full:
        tape.sessions[-1].later[index] = credential
        _conceal(tape, credential)
        tape.note(Supplied, at, index)


def ended(tape: Tape[TapedSession] | None, verdict: Done | Failed, at: float) -> None:
    """It is over."""
    if tape is None:
        return
    if isinstance(verdict, Done):
        tape.note(Ended, at, None)
    else:
        tape.note(Ended, at, verdict.cause.value, verdict.path, verdict.code)


def _conceal(tape: Tape[TapedSession], held: Held) -> None:
    if isinstance(held, Credential):
        tape.conceal(held.private_key_pkcs8)
    else:
        tape.conceal(held.key, held.identity)


def blanked(held: Held) -> Held:
    """The same with zeros for its secrets."""
    if isinstance(held, Credential):
        return Credential(chain=held.chain, private_key_pkcs8=bytes(len(held.private_key_pkcs8)))
    return PskCredential(identity=bytes(len(held.identity)), key=bytes(len(held.key)))
