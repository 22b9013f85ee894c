"""CoAP by hand, for programs that only carry bytes (RFC 7252 3)."""

MESSAGE_ID = b"\x12\x34"
# Acknowledgement without token, 2.04, of that message.
CHANGED = b"\x60\x44" + MESSAGE_ID


def bootstrap_request(endpoint: str) -> bytes:
    """Confirmable `POST /bs?ep=` without token, with a line feed as its payload: some programs send whole lines."""
    query = f"ep={endpoint}".encode()
    assert len(query) < 13
    return b"\x40\x02" + MESSAGE_ID + b"\xb2bs" + bytes([0x40 | len(query)]) + query + b"\xff\n"
