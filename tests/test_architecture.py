"""Who may import whom (the table of README, "Layout"), held by reading every module's imports."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"lwm2m", "issuers", "server", "simulators", "sql", "tests"}
PURE = {"asyncio", "socket", "time", "random", "logging", "ssl", "subprocess", "threading", "secrets"}


def modules(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def top_levels(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(file)}


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", modules("lwm2m"), ids=named)
def test_the_protocol_does_no_effects_and_knows_no_sibling(file: Path) -> None:
    allowed = {"cryptography"} if file.name == "est.py" else set()
    forbidden = (OURS - {"lwm2m"}) | PURE | {"httpx", "asyncpg", "aiocoap", "OpenSSL", "cryptography", "structlog"}
    assert not (top_levels(file) & (forbidden - allowed))


@pytest.mark.parametrize("file", modules("issuers"), ids=named)
def test_issuers_know_neither_protocol_nor_service(file: Path) -> None:
    assert not (top_levels(file) & ((OURS - {"issuers"}) | {"asyncpg", "fastapi", "OpenSSL", "aiocoap", "structlog"}))


@pytest.mark.parametrize("file", modules("server"), ids=named)
def test_the_service_knows_no_simulator_and_no_test(file: Path) -> None:
    assert not (top_levels(file) & {"simulators", "tests", "aiocoap"})


@pytest.mark.parametrize("file", modules("simulators"), ids=named)
def test_a_witness_shares_no_code_with_what_it_tests(file: Path) -> None:
    allowed = {"lwm2m"} if file.name == "swarm_device.py" else set()
    assert not (top_levels(file) & ({"lwm2m", "issuers", "server", "tests"} - allowed))


@pytest.mark.parametrize(
    ("library", "folder"),
    [("asyncpg", "store"), ("OpenSSL", "transport"), ("fastapi", "api"), ("uvicorn", "api")],
)
def test_a_library_has_one_home_in_the_service(library: str, folder: str) -> None:
    users = {named(file) for file in modules("server") if library in top_levels(file)}
    assert users, f"nobody uses {library}"
    assert all(user.startswith(f"server/{folder}/") for user in users), users


def test_private_openssl_bindings_sit_in_one_file() -> None:
    users = [
        named(file)
        for file in modules("server", "lwm2m", "issuers")
        if any(name.startswith("cryptography.hazmat.bindings") for name in imports(file))
    ]
    assert users == ["server/transport/openssl_binding.py"]


def test_no_sql_stands_in_python() -> None:
    words = ("SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM")
    found = [
        f"{named(file)}:{node.lineno}"
        for file in modules("server", "issuers", "lwm2m")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lstrip().startswith(words)
    ]
    assert not found


def test_every_query_is_asked() -> None:
    names = {
        name
        for file in (ROOT / "sql" / "queries").glob("*.sql")
        for name in re.findall(r"^-- name: (\w+)$", file.read_text(), re.MULTILINE)
    }
    said, patterns = set(), []
    for file in modules("server"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [str(each.value) if isinstance(each, ast.Constant) else None for each in node.values]
                if re.fullmatch(r"\w*_\w*", "".join(part or "" for part in parts)):
                    patterns.append("".join(r"\w+" if part is None else part for part in parts))
    assert names
    assert {name for name in names - said if not any(re.fullmatch(each, name) for each in patterns)} == set()


def test_the_environment_is_read_at_the_edge_only() -> None:
    """`server/config_sources.py` gets the environment as an argument; only the command line hands it over."""
    readers = {
        named(file)
        for file in modules("server", "issuers", "lwm2m")
        if any(
            isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
            for node in ast.walk(ast.parse(file.read_text()))
        )
    }
    assert readers <= {"server/cli/options.py", "server/cli/run.py", "server/demo.py", "server/store/postgres.py"}
