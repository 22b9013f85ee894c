"""OpenSSL's numbers in our words (x509_vfy.h, sslerr.h of OpenSSL 3 and 4)."""

from server.transport.engine import RefusalReason

# What OpenSSL says of a path whose anchor it cannot see, and of validity, which `trust.py` judges against
# its own clock. Anything else it finds wrong with the certificates sent is a second opinion that counts.
OVERRULED = frozenset({2, 9, 10, 18, 19, 20, 21})
# The error that makes OpenSSL choose the fitting alert (RFC 5246 7.2.2).
VERIFY_ERRORS = {
    RefusalReason.UNKNOWN_CA: 20,
    RefusalReason.DENIED: 23,
    RefusalReason.EXPIRED: 10,
    RefusalReason.NOT_YET_VALID: 9,
    RefusalReason.BAD_SIGNATURE: 7,
    RefusalReason.WEAK_KEY: 66,
    RefusalReason.WRONG_USAGE: 26,
    RefusalReason.NOT_A_CA: 79,
    RefusalReason.PATH_TOO_LONG: 22,
    RefusalReason.MALFORMED: 28,
}
# err.h: whose error a code of the queue is, in bits 23 to 30.
ERR_LIB_SSL = 20
# sslerr.h reason codes that tell an operator more than "failed"; 1000 + n is alert n from the peer.
REASONS = {
    193: RefusalReason.NO_COMMON_SUITE,
    118: RefusalReason.NO_COMMON_SUITE,
    295: RefusalReason.NO_COMMON_SUITE,
    376: RefusalReason.NO_COMMON_SUITE,
    410: RefusalReason.NO_COMMON_SUITE,
    258: RefusalReason.PROTOCOL_VERSION,
    266: RefusalReason.PROTOCOL_VERSION,
    199: RefusalReason.NO_CERTIFICATE,
    123: RefusalReason.PROOF_FAILED,
    223: RefusalReason.UNKNOWN_IDENTITY,
}
BAD_RECORD_MAC = 281
ALERTS = range(1000, 1256)
