"""OpenSSL's numbers in our words (x509_vfy.h, sslerr.h of OpenSSL 3 and 4)."""

from server.transport.engine import RefusalReason

# x509_vfy.h, each X509_V_ERR_….
UNSPECIFIED = 1
UNABLE_TO_GET_ISSUER_CERT = 2
CERT_SIGNATURE_FAILURE = 7
CERT_NOT_YET_VALID = 9
CERT_HAS_EXPIRED = 10
DEPTH_ZERO_SELF_SIGNED_CERT = 18
SELF_SIGNED_CERT_IN_CHAIN = 19
UNABLE_TO_GET_ISSUER_CERT_LOCALLY = 20
UNABLE_TO_VERIFY_LEAF_SIGNATURE = 21
CERT_CHAIN_TOO_LONG = 22
CERT_REVOKED = 23
INVALID_PURPOSE = 26
CERT_REJECTED = 28
EE_KEY_TOO_SMALL = 66
INVALID_CA = 79
# What OpenSSL says of a path whose anchor it cannot see, and of validity, which `trust.py` judges against
# its own clock. Anything else it finds wrong with the certificates sent is a second opinion that counts.
OVERRULED = frozenset(
    {
        UNABLE_TO_GET_ISSUER_CERT,
        CERT_NOT_YET_VALID,
        CERT_HAS_EXPIRED,
        DEPTH_ZERO_SELF_SIGNED_CERT,
        SELF_SIGNED_CERT_IN_CHAIN,
        UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        UNABLE_TO_VERIFY_LEAF_SIGNATURE,
    }
)
# The error that makes OpenSSL choose the fitting alert (RFC 5246 7.2.2).
VERIFY_ERRORS = {
    RefusalReason.UNKNOWN_CA: UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
    RefusalReason.DENIED: CERT_REVOKED,
    RefusalReason.EXPIRED: CERT_HAS_EXPIRED,
    RefusalReason.NOT_YET_VALID: CERT_NOT_YET_VALID,
    RefusalReason.BAD_SIGNATURE: CERT_SIGNATURE_FAILURE,
    RefusalReason.WEAK_KEY: EE_KEY_TOO_SMALL,
    RefusalReason.WRONG_USAGE: INVALID_PURPOSE,
    RefusalReason.NOT_A_CA: INVALID_CA,
    RefusalReason.PATH_TOO_LONG: CERT_CHAIN_TOO_LONG,
    RefusalReason.MALFORMED: CERT_REJECTED,
}
# err.h: whose error a code of the queue is, in bits 23 to 30.
ERR_LIB_SSL = 20
# sslerr.h reason codes that tell an operator more than "failed"; 1000 + n is alert n from the peer.
REASONS = {
    193: RefusalReason.NO_COMMON_SUITE,  # NO_SHARED_CIPHER
    118: RefusalReason.NO_COMMON_SUITE,  # NO_SUITABLE_SIGNATURE_ALGORITHM
    295: RefusalReason.NO_COMMON_SUITE,  # NO_SUITABLE_GROUPS
    376: RefusalReason.NO_COMMON_SUITE,  # NO_SHARED_SIGNATURE_ALGORITHMS
    410: RefusalReason.NO_COMMON_SUITE,  # NO_SHARED_GROUPS
    258: RefusalReason.PROTOCOL_VERSION,  # UNSUPPORTED_PROTOCOL
    266: RefusalReason.PROTOCOL_VERSION,  # WRONG_SSL_VERSION
    199: RefusalReason.NO_CERTIFICATE,  # PEER_DID_NOT_RETURN_A_CERTIFICATE
    123: RefusalReason.PROOF_FAILED,  # BAD_SIGNATURE
    223: RefusalReason.UNKNOWN_IDENTITY,  # PSK_IDENTITY_NOT_FOUND
}
# DECRYPTION_FAILED_OR_BAD_RECORD_MAC
BAD_RECORD_MAC = 281
ALERTS = range(1000, 1256)
