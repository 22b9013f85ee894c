"""The OpenSSL of the cryptography wheel, by the wheel's own binding.

It is private to cryptography: both packages are pinned, and `openssl.self_test` refuses to start on a wheel that
behaves otherwise. Nobody else in this project names it.
"""

from typing import Any

from cryptography.hazmat.bindings._rust import _openssl

lib: Any = _openssl.lib
ffi: Any = _openssl.ffi
