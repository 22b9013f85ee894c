"""What the answer to a change says besides what was changed: `warnings`, each with what to do."""

from collections.abc import Iterable
from typing import Any

from server.doubt import Doubt


def warned(doubts: Iterable[Doubt]) -> dict[str, Any]:
    """The part of an answer that warns; nothing where there is nothing to warn of."""
    found = [{"kind": doubt.kind, "message": doubt.what, "next_step": doubt.remedy} for doubt in doubts]
    return {"warnings": found} if found else {}
