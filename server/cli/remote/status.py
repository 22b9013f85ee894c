"""`status` through the API, with what only the running server knows."""

from server.cli import status as local
from server.cli.options import AsJson
from server.cli.remote.door import ApiKeyFile, CaFile, Door, Url


def status(url: Url, api_key_file: ApiKeyFile, ca_file: CaFile = None, as_json: AsJson = False) -> None:
    """Say what needs a person: since when, why, what to do. Exit 1 when it is a fault, or devices are not served."""
    door = Door(url, api_key_file, ca_file)
    problems = door.problems()
    if problems:
        # What is on record cannot be looked at while the database is away, which is told already.
        local.tell((), None, as_json=as_json, unready=problems)
    found = door.get("/v1/attention")
    local.tell(found["findings"], found["checked_at"], as_json=as_json)
