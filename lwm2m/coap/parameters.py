"""Times and limits of one association's exchanges (RFC 7252 4.8)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lwm2m.coap.blockwise import LARGEST_BLOCK, SMALLEST_BLOCK, largest_block


@dataclass(frozen=True, slots=True)
class Parameters:
    """Times in seconds, sizes in bytes; ValueError when a size of blocks is no power of two from 16 to 1024."""

    # RFC 7252 4.8: transmission parameters.
    ack_timeout: float = 2.0
    ack_random_factor: float = 1.5
    max_retransmit: int = 4
    # RFC 7252 4.8.2, EXCHANGE_LIFETIME: how long a message id means the same message.
    exchange_lifetime: float = 247.0
    # A request not answered by then gets an empty acknowledgement; the shortest ACK_TIMEOUT of a peer is 2 s.
    empty_ack_after: float = 0.5
    # A request that timed out is sent again so often with a new message id: one client ignores
    # retransmissions.
    repeats: int = 2
    # MAX_TRANSMIT_WAIT of RFC 7252 4.8.2: the peer's own retransmissions of its separate answer, all of them.
    separate_response_timeout: float = 93.0
    # RFC 7959 2.2: block size of what we send, where the peer names none.
    block_size: int = LARGEST_BLOCK
    # The largest that one datagram holds; a peer that names a size gets that one up to here.
    largest_block: int = LARGEST_BLOCK
    # A payload of ours up to here goes out in one message, though a datagram holds no block of its size: some clients
    # understand no blocks of an object instance. Never less than a block.
    largest_whole: int = 0
    # What one peer may make us keep: a body in the making, bodies at a time, answers remembered for
    # duplicates.
    max_payload: int = 65536
    max_assemblies: int = 4
    max_remembered: int = 16
    # Seconds (Max-Age) after which a peer comes again that has more requests open than that.
    busy_seconds: int = 5

    def __post_init__(self) -> None:
        for size in (self.block_size, self.largest_block):
            if not SMALLEST_BLOCK <= size <= LARGEST_BLOCK or size & (size - 1):
                raise ValueError(f"block size {size} is no power of two from {SMALLEST_BLOCK} to {LARGEST_BLOCK}")

    def with_room(self, room: int) -> Parameters:
        """The same for an association whose datagrams hold payloads of `room` bytes at most."""
        largest = largest_block(room)
        whole = min(self.block_size, room)
        return replace(self, block_size=min(self.block_size, largest), largest_block=largest, largest_whole=whole)
