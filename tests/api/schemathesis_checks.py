"""What schemathesis checks of every answer besides its own: the one error shape, and no redirect."""

import schemathesis
from schemathesis import Case, CheckContext, Response

SHAPE = {"object", "code", "type", "message", "request_id", "fields"}


@schemathesis.check
def error_shape(_context: CheckContext, response: Response, _case: Case) -> None:
    """Every answer that is no success has the error shape, whatever went wrong; nothing is redirected."""
    status = response.status_code
    assert not 300 <= status < 400, "a redirect"
    # A HEAD request has no body to look at; 503 of /readyz is an answer of its own.
    if status < 400 or not response.content or response.request.path_url.startswith("/readyz"):
        return
    body = response.json()
    assert set(body) == SHAPE, f"the error shape has other fields: {sorted(body)}"
    assert (body["object"], body["code"]) == ("error", status)
    assert body["type"]
    assert body["message"]
    assert len(body["request_id"]) == 32
    for fault in body["fields"]:
        assert set(fault) == {"field", "name", "message"}
