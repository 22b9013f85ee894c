"""What the group-commit writer can be asked to write (design 7): the contract of one row.

An operation is safe to run again: after a lost connection the whole batch is, and each statement then answers from what
is there. Several are made for every bootstrap: plain tuples and lists on the way to SQL, and neither they nor what
shares a base with them are frozen, which would take three times as long to make.
"""

from collections.abc import Hashable
from typing import ClassVar, Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Operation(Generic[T_co]):
    """One row to write; `Writer.write` answers with a T_co once it is durable."""

    __slots__ = ()

    statement: ClassVar[str]
    """The named query that writes many of this kind, by one array a column of `row` unless they come `whole`."""
    whole: ClassVar[bool] = False
    """Whether the query takes one array of rows, of a type in the record: what every bootstrap writes."""
    kept: ClassVar[bool]
    """A fact that is written when the database is back, even if its caller was told that it is away."""

    def keys(self) -> tuple[Hashable, ...]:
        """What this operation touches: two with a common key are written in the order they came."""
        raise NotImplementedError

    def row(self) -> tuple[object, ...]:
        """The statement's columns."""
        raise NotImplementedError

    def parts(self) -> "tuple[Operation[object], ...]":
        """What to write one by one should the database refuse the whole; nothing = it is one fact."""
        return ()
