"""What may go wrong in the protocol package.

Lwm2mError
├── DecodeError   the bytes of the peer do not follow their standard: theirs, answered 4.xx or dropped
└── EncodeError   a value of ours does not fit the type or format it is to be written in: our mistake
"""


class Lwm2mError(Exception):
    """Any failure of the protocol package."""


class DecodeError(Lwm2mError):
    """Received bytes do not follow the standard they claim to follow."""


class EncodeError(Lwm2mError):
    """A value cannot be written in the format asked for."""
