"""Two servers on one PostgreSQL, and nginx in front of them as a UDP balancer (docs/operate.md, "Several nodes")."""

import asyncio
import contextlib
import random
import secrets
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from server.store.postgres import EmbeddedPostgres
from tests.integration.field import Field
from tests.integration.service import PATIENCE, Service, leaving
from tests.programs import required

# As docs/operate.md gives it to operators; a test holds the two together.
CONFIGURATION = """\
stream {
    upstream bootstrap {
        hash $remote_addr consistent;
        server 127.0.0.1:FIRST max_fails=1 fail_timeout=30s;
        server 127.0.0.1:SECOND max_fails=1 fail_timeout=30s;
    }
    server {
        listen 127.0.0.1:FRONT udp;
        proxy_pass bootstrap;
        proxy_timeout 300s;
    }
}
"""
# Debian's place for what `load_module` names.
MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
# ip(7), ip_local_port_range: where the system's own choices begin.
FIRST_EPHEMERAL = 32_768
# All devices come from the balancer's address.
LIMITS = "[limits]\nmax_handshakes_per_source = 2000\n"


class Node(Service):
    """A server on a record that others use too."""

    def __init__(self, folder: Path, url: str, master_key: str, port: int, *extra: str) -> None:
        configuration = folder / "firstlight.toml"
        folder.mkdir(mode=0o755)
        configuration.write_text(LIMITS)
        self._shared = ("--database-url", url)
        super().__init__(folder, "--config", str(configuration), *self._shared, *extra)
        self.coaps = f"127.0.0.1:{port}"
        self.data.mkdir()
        (self.data / "master.key").touch(mode=0o600)
        (self.data / "master.key").write_text(master_key)

    @property
    def record(self) -> Sequence[str]:
        """The record of all nodes, whichever of them runs."""
        return (*super().record, *self._shared)


@contextlib.asynccontextmanager
async def pair(folder: Path, *extra: str) -> AsyncIterator[tuple[Field, Node]]:
    """A field on the first of two nodes, whose factory both trust, and the second node."""
    folder.chmod(0o755)
    master_key = secrets.token_hex(32)
    postgres = EmbeddedPostgres(folder / "record")
    url = await postgres.start()
    ports = zip(("first", "second"), free_ports(2), strict=True)
    nodes = [Node(folder / name, url, master_key, port, *extra) for name, port in ports]
    try:
        async with leaving(folder, nodes):
            for node in nodes:
                await node.start()
            field = Field(nodes[0])
            await field.trust(field.factory, name="field-factory")
            for node in nodes:
                await Field(node).known(anchors=2, profiles=1)
            yield field, nodes[1]
            faults = [line for node in nodes for line in Field(node).faults()]
            assert not faults, faults
    finally:
        await postgres.destroy()


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[tuple[Field, Node, tuple[str, int]]]:
    """Such a pair, and the address of the balancer before it."""
    [front] = free_ports(1)
    async with pair(folder) as (field, other):
        ports = [Field(node).address[1] for node in (field.service, other)]
        async with balancer(folder, *ports, front):
            yield field, other, ("127.0.0.1", front)


@contextlib.asynccontextmanager
async def balancer(folder: Path, first: int, second: int, front: int) -> AsyncIterator[None]:
    """nginx, in the foreground, with nothing of the system's own configuration."""
    program = shutil.which("nginx") or required("/usr/sbin/nginx")
    text = CONFIGURATION
    for name, port in (("FIRST", first), ("SECOND", second), ("FRONT", front)):
        text = text.replace(name, str(port))
    file, pid_file = folder / "nginx.conf", folder / "nginx.pid"
    head = f"load_module {MODULE};\npid {pid_file};\ndaemon off;\nworker_rlimit_nofile 65536;\n"
    file.write_text(f"{head}error_log {folder}/nginx.log warn;\nevents {{ worker_connections 32768; }}\n{text}")
    process = await asyncio.create_subprocess_exec(program, "-e", f"{folder}/nginx.log", "-c", str(file))
    try:
        async with asyncio.timeout(PATIENCE):
            while not pid_file.exists():
                assert process.returncode is None, (folder / "nginx.log").read_text()
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def free_ports(count: int) -> list[int]:
    """UDP ports of loopback that nobody has, out of those that the system gives to nobody by itself: they stay free."""
    found: list[int] = []
    for port in random.sample(range(10_000, FIRST_EPHEMERAL), 1000):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found
