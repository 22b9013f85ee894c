"""The rows of steps as text against their readable twin."""

import json

from hypothesis import given
from hypothesis import strategies as st

from lwm2m.steps import OperationKind, StepRecord, rows

seconds = st.one_of(st.none(), st.floats(0, 1e6))
steps = st.builds(
    StepRecord,
    operation=st.sampled_from(OperationKind),
    path=st.text(max_size=20),
    code=st.one_of(st.none(), st.integers(0, 255)),
    bytes=st.integers(0, 65536),
    format=st.one_of(st.none(), st.text(max_size=20)),
    note=st.text(max_size=40),
    at=seconds,
    seconds=seconds,
)


@given(st.lists(steps, max_size=4))
def test_the_text_of_rows_is_the_one_json_would_write(log: list[StepRecord]) -> None:
    assert rows(log) == json.dumps([step.as_row() for step in log])
