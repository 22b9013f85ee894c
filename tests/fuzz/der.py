"""DER that is well-formed and still not what was meant: elements changed, moved, doubled, with lengths that fit."""

from random import Random
from typing import TypeAlias

from tests.fuzz.mutation import mutated
from tests.unit.issuers.surgery import element

Node: TypeAlias = tuple[int, "bytes | list[Node]"]

# Tags that stand where others are expected: the string types, numbers, times, containers (X.690 8).
TAGS = (1, 2, 3, 4, 5, 6, 9, 10, 12, 18, 19, 20, 22, 23, 24, 26, 28, 30, 0x30, 0x31, 0x80, 0x82, 0xA0, 0xA3)
# Object identifiers of attributes, extensions, curves and algorithms, in DER.
OIDS = tuple(
    map(
        bytes.fromhex,
        (
            "550403",
            "550406",
            "550407",
            "55040a",
            "55040b",
            "55040c",
            "550405",
            "551d0e",
            "551d0f",
            "551d11",
            "551d13",
            "551d20",
            "551d23",
            "551d25",
            "551d1f",
            "2a864886f70d010901",
            "2a864886f70d01090e",
            "2a864886f70d010101",
            "2a8648ce3d0201",
            "2a8648ce3d030107",
            "2b81040022",
            "2a8648ce3d040302",
            "2a8648ce3d040301",
            "2b06010505070302",
            "2b06010505070301",
            "2b0601050507010b",
            "2b6570",
            "0992268993f22c640119",
        ),
    )
)
DEEPEST = 40


def parsed(data: bytes, depth: int = 0) -> list[Node]:
    """The elements of `data`; raises ValueError for what is no DER with tags of one byte."""
    nodes: list[Node] = []
    at = 0
    while at < len(data):
        tag, length, begin = data[at], data[at + 1] if at + 1 < len(data) else 0x80, at + 2
        if length & 0x80:
            width = length & 0x7F
            begin, length = begin + width, int.from_bytes(data[begin : begin + width], "big")
            if not 1 <= width <= 3:
                raise ValueError("a length of no fit form")
        if begin + length > len(data) or depth > DEEPEST:
            raise ValueError("an element beyond the end")
        body = data[begin : begin + length]
        nodes.append((tag, _inside(body, depth + 1) if tag & 0x20 else body))
        at = begin + length
    return nodes


def _inside(body: bytes, depth: int) -> bytes | list[Node]:
    """The elements of a constructed one; its bytes where an earlier change made them none."""
    try:
        return parsed(body, depth)
    except ValueError:
        return body


def written(nodes: list[Node]) -> bytes:
    """The bytes of `nodes`."""
    return b"".join(element(tag, written(body) if isinstance(body, list) else body) for tag, body in nodes)


def reshaped(random: Random, data: bytes, other: bytes) -> bytes:
    """`data` with one to three elements changed; `other` lends elements."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        # Read anew for each change: what one of them shared or lent must not change with the next.
        data = _reshaped(random, parsed(data), _lists(parsed(other)))
    return data


def _reshaped(random: Random, tree: list[Node], spare: list[list[Node]]) -> bytes:
    nodes = random.choice([each for each in _lists(tree) if each] or [tree])
    at = random.randrange(len(nodes)) if nodes else 0
    match random.randrange(9):
        case 0:
            del nodes[at : at + 1]
        case 1:
            nodes[at:at] = nodes[at : at + 1] * random.choice((1, 1, 2, 40))
        case 2:
            lent = random.choice(spare)
            nodes[at:at] = random.sample(lent, min(1, len(lent)))
        case 3:
            random.shuffle(nodes)
        case _ if nodes:
            nodes[at] = _changed(random, *nodes[at])
    return written(tree)


def _changed(random: Random, tag: int, body: bytes | list[Node]) -> Node:
    if isinstance(body, list) or random.random() < 0.2:
        return random.choice(TAGS) if not isinstance(body, list) else tag, body if random.random() < 0.8 else []
    if tag == 6:
        return tag, random.choice(OIDS)
    if random.random() < 0.1:
        return tag, body * random.choice((0, 2, 30, 400))
    return tag, mutated(random, body)


def _lists(nodes: list[Node]) -> list[list[Node]]:
    """`nodes` and every list of elements below them."""
    below = [each for _, body in nodes if isinstance(body, list) for each in _lists(body)]
    return [nodes, *below]
