"""The files that a start leaves in the data folder for people and rigs."""

import os
from pathlib import Path

from server import record
from server.admin import first_start
from server.config import Config, ServerConfig


async def test_a_start_writes_a_certificate_only_where_another_stands(database_url: str, tmp_path: Path) -> None:
    """On a full disk the one that stands there would be lost, and a rig may be reading it."""
    config = Config(server=ServerConfig(data_dir=tmp_path))
    async with record.opened(config, database_url, create=True) as opened:

        async def written() -> Path:
            return await first_start.write_certificates(opened.database, opened.sealer, config, opened.account_id)

        file = await written()
        pem = file.read_bytes()
        os.utime(file, (0, 0))
        await written()
        assert file.stat().st_mtime == 0
        file.write_bytes(b"another")
        await written()
        assert file.read_bytes() == pem
