"""Peers that come as a Python package and not everywhere."""

import platform
import sys

# Where python-mbedtls has a wheel; the marker in pyproject.toml says the same.
HAS_MBED_TLS = sys.version_info < (3, 13) and sys.platform == "linux" and platform.machine() == "x86_64"
