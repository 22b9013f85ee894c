"""What a form sent: `application/x-www-form-urlencoded`, read once, bounded.

Files are read by the browser into a text field, so that no upload needs more than this.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from fastapi import Request

from server.errors import BadRequest, Conflict, LimitReached, ServiceError

MOST_BYTES = 512 * 1024
MOST_FIELDS = 200


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form; the values may be secrets."""

    values: Mapping[str, str] = field(repr=False)

    def text(self, name: str) -> str:
        """A field without blanks around it; absent = empty."""
        return self.values.get(name, "").strip()

    def switch(self, name: str) -> bool:
        """Whether a box is ticked."""
        return name in self.values

    def within(self, prefix: str) -> dict[str, str]:
        """The fields `prefix.NAME` by their NAME."""
        return {
            name.removeprefix(f"{prefix}."): value.strip()
            for name, value in self.values.items()
            if name.startswith(f"{prefix}.")
        }


async def read(request: Request) -> Form:
    """The form of a request; whoever asks again gets the same. BadRequest when it is too large or no form."""
    known = getattr(request.state, "form", None)
    if isinstance(known, Form):
        return known
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise BadRequest(f"a form has at most {MOST_BYTES // 1024} KiB")
    if body and kind != "application/x-www-form-urlencoded":
        raise BadRequest("a form is sent as application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise BadRequest("the form cannot be read") from error
    if any("\0" in text for pair in pairs for text in pair):
        raise BadRequest("the form holds a NUL character, which no record can keep")
    # Browsers send the line ends of RFC 822 whatever was typed.
    form = Form({name: value.replace("\r\n", "\n") for name, value in pairs})
    request.state.form = form
    return form


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with a form: by field where one is at fault, else about the whole."""

    fields: Mapping[str, str] = field(default_factory=dict)
    whole: str = ""

    def __bool__(self) -> bool:
        return bool(self.fields or self.whole)


# What a person can mend in the form that caused it.
MENDABLE = (BadRequest, Conflict, LimitReached)


def faults(error: ServiceError, fields: Iterable[str]) -> Faults:
    """`error` at the field it names, when the form has that field."""
    at = getattr(error, "field", "")
    if at and at in fields:
        return Faults({at: error.message})
    return Faults(whole=error.message)
