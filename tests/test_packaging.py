"""Our four import names belong to us alone, and no folder is forgotten in the package list."""

import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", ["lwm2m", "issuers", "server", "simulators"])
def test_an_import_name_belongs_to_us_alone(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {"firstlight"}


def test_sql_never_becomes_a_top_level_module() -> None:
    assert "firstlight" not in packages_distributions().get("sql", [])


def test_every_package_folder_is_listed() -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    found = {
        ".".join(folder.parent.relative_to(ROOT).parts)
        for top in ("lwm2m", "issuers", "server", "simulators")
        for folder in (ROOT / top).rglob("__init__.py")
    }
    assert listed == found | {"server.sql"}


def test_every_declared_dependency_has_both_bounds() -> None:
    project = PROJECT["project"]
    declared = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    assert all(">=" in dependency and "<" in dependency.partition(">=")[2] for dependency in declared)


def test_the_constraints_pin_every_declared_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    declared = [
        *PROJECT["project"]["dependencies"],
        *(d for e in PROJECT["project"]["optional-dependencies"].values() for d in e),
    ]
    assert {d.partition(">=")[0].lower() for d in declared} <= pinned
