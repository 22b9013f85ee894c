"""Certificates made once for all transport tests."""

import pytest

from tests.unit.transport.certificates import Pki


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()
