"""Certificates made once for all transport tests."""

import pytest

from server.trust import TrustIndex
from tests.unit.transport.rig import Made, anchor, make


class Pki:
    """A factory with root, intermediate and one device; a server's own certificate."""

    def __init__(self) -> None:
        self.root = make("Factory Root", ca=True)
        self.intermediate = make("Factory Line 1", self.root, ca=True, path_length=0)
        self.device = make("dev-1", self.intermediate, ca=False)
        self.stranger = make("dev-1", make("Elsewhere", ca=True), ca=False)
        self.server = make("bootstrap.example.com")
        self.index = TrustIndex([anchor(self.root)])

    @property
    def path(self) -> tuple[Made, ...]:
        return (self.device, self.intermediate, self.root)


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()
