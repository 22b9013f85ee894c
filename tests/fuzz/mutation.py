"""Inputs that are nearly right: known good bytes, changed at random where parsers tend to trust them."""

from collections.abc import Sequence
from random import Random

# Lengths, counts and tags at which encodings change shape or arithmetic overflows.
BOUNDARIES = (0, 1, 2, 7, 8, 12, 13, 14, 15, 16, 127, 128, 129, 254, 255, 256, 268, 269, 1023, 1024, 16383, 16384)
LARGE = (65535, 65536, (1 << 24) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1)


def mutated(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to six changes, most often one; `others` lend pieces."""
    changed = bytearray(data)
    for _ in range(min(6, 1 + int(random.expovariate(1.0)))):
        _change(random, changed, others)
    return bytes(changed)


def _change(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    size = len(data)
    at = random.randrange(size + 1)
    match random.randrange(10):
        case 0 | 1 if size:
            data[at % size] ^= 1 << random.randrange(8)
        case 2 if size:
            data[at % size] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        case 3:
            width = random.choice((1, 2, 3, 4, 8))
            number = random.choice((*BOUNDARIES, *LARGE, size, size - at, random.getrandbits(16)))
            data[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "big")
        case 4:
            del data[at : at + _length(random)]
        case 5:
            data[at:at] = data[at : at + _length(random)] * random.choice((1, 1, 2, 30))
        case 6:
            data[at:at] = random.randbytes(_length(random))
        case 7 if others:
            other = random.choice(others)
            begin = random.randrange(len(other) + 1)
            data[at : at + _length(random)] = other[begin : begin + _length(random)]
        case 8:
            del data[at:]
        case _ if size:
            # A number one too large or too small.
            data[at % size] = (data[at % size] + random.choice((-1, 1))) % 256


def _length(random: Random) -> int:
    return min(2000, 1 + int(random.expovariate(0.15)))
