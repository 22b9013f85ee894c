"""CoAP by hand, for programs that only carry bytes (RFC 7252 3)."""

MESSAGE_ID = b"\x12\x34"
# Acknowledgement without token, 2.04, of that message.
CHANGED = b"\x60\x44" + MESSAGE_ID
# And 2.05.
CONTENT = b"\x60\x45" + MESSAGE_ID
# Block2: the first block, of 1024 bytes, behind a Uri-Path.
IN_BLOCKS_OF_1024 = b"\xc1\x06"


def bootstrap_request(endpoint: str) -> bytes:
    """Confirmable `POST /bs?ep=` without token, with a line feed as its payload: some programs send whole lines."""
    query = f"ep={endpoint}".encode()
    assert len(query) < 13
    return b"\x40\x02" + MESSAGE_ID + b"\xb2bs" + bytes([0x40 | len(query)]) + query + b"\xff\n"


def ca_certificates_request(options: bytes = b"") -> bytes:
    """Confirmable `GET /.well-known/est/crts` without token, with `options` behind the path and the same payload."""
    return b"\x40\x01" + MESSAGE_ID + b"\xbb.well-known\x03est\x04crts" + options + b"\xff\n"
