"""What holds memory of OpenSSL's may be the last to go when an interpreter ends, and says nothing then."""

import subprocess
import sys
from pathlib import Path

import pytest

# Modules lose their names one after the other, the newest first, and what an older one holds goes after that.
KEPT = """
import json, sys
{made}
import {module} as module
json.kept = made
sys.kept = (json, module)
del made
"""
SESSION = """
from tests.unit.transport.certificates import Pki
from tests.unit.transport.client import x509_client
from tests.unit.transport.openssl_rig import accept, engine
pki = Pki()
made = accept(engine(pki), x509_client(pki))
"""
SWARM = """
from simulators.swarm_dtls import PskCredential, SwarmClient, SwarmContext
made = SwarmClient(SwarmContext(anchors=()), PskCredential(b"device", bytes(16)))
"""


@pytest.mark.parametrize(
    ("made", "module"),
    [
        (SESSION, "server.transport.openssl_session"),
        (SWARM, "simulators.swarm_dtls"),
    ],
    ids=["session", "client of the swarm"],
)
def test_an_interpreter_ends_without_a_word(made: str, module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KEPT.format(made=made, module=module)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
