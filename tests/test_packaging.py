"""Our four import names belong to us alone, and no folder is forgotten in the package list."""

import re
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


def test_the_pythons_it_is_for_are_those_the_page_says_it_was_run_on() -> None:
    page = (ROOT / "docs" / "operate.md").read_text()
    section = page.partition("\n## Pythons and systems\n")[2].partition("\n## ")[0]
    pythons = re.findall(r"^\| (3\.\d+) ", section, re.M)
    assert PROJECT["project"]["classifiers"] == [f"Programming Language :: Python :: {python}" for python in pythons]
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"


def test_the_licence_is_the_whole_text_and_is_declared() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "   9. Accepting Warranty or Additional Liability." in text
    assert "limitations under the License." in text


def test_the_unit_and_the_pages_it_speaks_of_are_in_the_wheel() -> None:
    files = PROJECT["tool"]["setuptools"]["data-files"]
    assert files["lib/systemd/system"] == ["docs/firstlight.service"]
    assert "docs/*.md" in files["share/doc/firstlight"]
