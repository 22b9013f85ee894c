"""What OpenAPI says of an operation: an example of its answer, and of each error it may end in."""

from typing import Any

EXAMPLE_ID = "0161991d63d400000000000100100147"
# Of a key or a user: a role takes the place of groups.
NO_GROUPS: dict[str, object] = {
    "object": "list",
    "data": [],
    "limit": 50,
    "order": "ASC",
    "after": None,
    "has_more": False,
    "total_count": 0,
}

Responses = dict[int | str, dict[str, Any]]

# type and message of an example for each error.
ERRORS = {
    400: ("validation_error", "HMAC Hex key: even number of hexadecimal characters, you gave 31"),
    401: ("invalid_auth", "an API key is needed: send it as `Authorization: Bearer ak_…`"),
    403: ("forbidden", "the key night shift has the role read-only; this needs the role administrator"),
    404: ("not_found", "there is no such certificate issuer"),
    409: ("duplicate", "there is already a certificate issuer Plant CA"),
    413: ("too_large", "a body has at most 1048576 bytes"),
    423: ("locked", "a renewal goes over a registration, and urn:dev:os:0001 is not registered"),
    424: ("failed_dependency", "the CA's address ca.example.com cannot be resolved"),
    503: ("service_unavailable", "the database is away"),
}


def documented(code: int, example: object, *errors: int) -> Responses:
    """The answer of an operation and its errors, each with an example."""
    answers: Responses = {code: {"description": "Done."}}
    if example is not None:
        answers[code]["content"] = {"application/json": {"example": example}}
    # Any request can be malformed, and the record can be away.
    answers.update({error: problem(error) for error in sorted({400, *errors, 503})})
    return answers


def listing(example: object, *errors: int) -> Responses:
    """A list of `example`, and its errors."""
    body = {
        "object": "list",
        "data": [example],
        "limit": 50,
        "order": "ASC",
        "after": None,
        "has_more": False,
    }
    return documented(200, body, *errors)


def problem(code: int) -> dict[str, Any]:
    """An error with an example."""
    type, message = ERRORS[code]
    fields = [{"field": "issuer_credentials.hmac_hex_key", "name": "issuer_credentials.hmac_hex_key"}]
    body = {
        "object": "error",
        "code": code,
        "type": type,
        "message": message,
        "request_id": EXAMPLE_ID,
        "fields": [{**field, "message": message} for field in fields] if code == 400 else [],
    }
    return {"description": type.replace("_", " "), "content": {"application/json": {"example": body}}}
