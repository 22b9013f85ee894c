"""Each row of `matrices.toml`, what CAs may answer, names tests that exist, and no matrix is left out."""

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MATRICES = tomllib.loads((Path(__file__).parent / "matrices.toml").read_text())
ROWS = [(f"{matrix}: {row}", tests) for matrix, rows in MATRICES.items() for row, tests in rows.items()]


@cache
def source(file: str) -> str:
    return (ROOT / file).read_text()


@cache
def functions(file: str) -> dict[str, ast.AsyncFunctionDef | ast.FunctionDef]:
    """The tests of a file by name."""
    nodes = ast.walk(ast.parse(source(file)))
    return {node.name: node for node in nodes if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}


@pytest.mark.parametrize(("row", "tests"), ROWS, ids=[row for row, _ in ROWS])
def test_the_row_is_held_by_a_test_that_exists(row: str, tests: list[str]) -> None:
    assert tests
    for test in tests:
        file, _, name = test.partition("::")
        name, _, case = name.removesuffix("]").partition("[")
        assert name.startswith("test_")
        assert name in functions(file), f"{row}: {test}"
        if case:
            assert any("parametrize" in ast.unparse(each) for each in functions(file)[name].decorator_list), test
            # A case of a table in that file: a text or a number of it.
            assert f'"{case}"' in source(file) or f"({case}," in source(file), f"{row}: {test}"


def test_no_matrix_is_left_out() -> None:
    assert set(MATRICES) == {"CFSSL", "multirootca", "HVCA answers", "HVCA tokens and lost answers"}
