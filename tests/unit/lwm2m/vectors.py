"""The vectors of tests/vectors; values are plain, {"opaque": hex}, {"link": [o, i]} or {"several": {id: …}}."""

from __future__ import annotations

import json
from pathlib import Path as File
from typing import Any

from lwm2m.objects import ObjectInstance, ObjectLink, ResourceValue

FOLDER = File(__file__).resolve().parents[2] / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    """The vectors of one file."""
    vectors: list[dict[str, Any]] = json.loads((FOLDER / name).read_text())["vectors"]
    return vectors


def instances(vector: dict[str, Any]) -> tuple[ObjectInstance, ...]:
    """What the payload of a vector holds."""
    return tuple(
        ObjectInstance(object, instance, {int(id): value(each) for id, each in resources.items()})
        for object, instance, resources in vector["instances"]
    )


def value(text: Any) -> ResourceValue:
    """One value of a vector."""
    match text:
        case {"opaque": str(hex)}:
            return bytes.fromhex(hex)
        case {"link": [int(object), int(instance)]}:
            return ObjectLink(object, instance)
        case {"several": dict(several)}:
            return {int(id): value(each) for id, each in several.items()}  # type: ignore[misc]
        case _:
            return text  # type: ignore[no-any-return]
