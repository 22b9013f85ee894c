"""What a command says of what it did besides that it did it: warnings, each with what to do."""

from collections.abc import Iterable, Mapping
from shlex import quote

from server.doubt import Doubt

# What does as the remedy of a doubt says, by its kind; {name} is what the command was about.
COMMANDS: Mapping[str, str] = {
    "not_trusted": "firstlight trust add FILE --service lwm2m",
    "not_verified": "firstlight issuer verify {name}",
    "verification_failed": "firstlight issuer verify {name}",
    "no_service": "firstlight service add NAME",
}


def with_doubts(done: str, doubts: Iterable[Doubt], name: str) -> str:
    """`done`, and a line for each doubt of what is called `name`."""
    lines = [done]
    for doubt in doubts:
        command = COMMANDS.get(doubt.kind, "").format(name=quote(name))
        shown = f" (`{command}`)" if command else ""
        lines.append(f"Warning: {doubt.what[:1].lower()}{doubt.what[1:]}; {doubt.remedy}{shown}.")
    return "\n".join(lines)
