"""All kinds of operations, and the order in which a batch of them is written (design 7)."""

from collections.abc import Hashable, Iterable

from server.store.est_offers import NoteOffer
from server.store.issuance_operations import (
    MarkAbandoned,
    MarkDelivered,
    OpenIssuance,
    RecordFailed,
    RecordIssued,
    RecordPending,
)
from server.store.operation import Operation
from server.store.session_operations import (
    AppendStep,
    EndSession,
    RecordEnrollment,
    RecordSession,
    RecordTranscript,
    TouchDevice,
)

# In the order of an issuance's life, so that its steps mostly fit into one transaction without a second round.
ORDER: tuple[type[Operation[object]], ...] = (
    OpenIssuance,
    RecordPending,
    RecordFailed,
    RecordIssued,
    MarkDelivered,
    MarkAbandoned,
    RecordSession,
    RecordEnrollment,
    EndSession,
    AppendStep,
    TouchDevice,
    NoteOffer,
    RecordTranscript,
)
_RANK = {kind: rank for rank, kind in enumerate(ORDER)}


def grouped(operations: Iterable[Operation[object]]) -> list[list[int]]:
    """Positions in `operations`, one list a statement, in the order in which the statements run.

    A statement holds one kind and no key twice; of two operations with a common key the earlier runs first.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    last: dict[Hashable, tuple[int, int]] = {}
    for position, operation in enumerate(operations):
        rank = _RANK[type(operation)]
        keys = operation.keys()
        round_ = 0
        for key in keys:
            before = last.get(key)
            if before is not None:
                round_ = max(round_, before[0] + (before[1] >= rank))
        place = (round_, rank)
        for key in keys:
            last[key] = place
        groups.setdefault(place, []).append(position)
    return [groups[place] for place in sorted(groups)]
