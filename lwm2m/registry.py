"""The definitions of the objects that bootstrap reads and writes (LwM2M Core 1.2 appendix E).

The rows come from the OMA registry of objects, editions Security 1.2, Server 1.2, Access Control 1.1,
Device 1.2 and OSCORE 2.0; `since` is the protocol version whose edition first had the resource.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Literal, TypeAlias


class ResourceType(Enum):
    """The data types of LwM2M Core 1.2 appendix C; NONE is a resource that can only be executed."""

    STRING = "String"
    INTEGER = "Integer"
    UNSIGNED = "Unsigned Integer"
    FLOAT = "Float"
    BOOLEAN = "Boolean"
    OPAQUE = "Opaque"
    TIME = "Time"
    OBJLNK = "Objlnk"
    CORELNK = "Corelnk"
    NONE = "None"


Since: TypeAlias = Literal["1.0", "1.1", "1.2"]
Operations: TypeAlias = Literal["R", "RW", "E", ""]


@dataclass(frozen=True, slots=True)
class Resource:
    """One row of an object definition; operations "" means that only bootstrap may touch it."""

    id: int
    name: str
    type: ResourceType
    operations: Operations
    multiple: bool
    mandatory: bool
    since: Since


@dataclass(frozen=True, slots=True)
class ObjectDefinition:
    """An object of the registry; `multiple` tells whether it may have several instances."""

    id: int
    name: str
    multiple: bool
    resources: Mapping[int, Resource]


_T = ResourceType
_Row: TypeAlias = tuple[int, str, ResourceType, Operations, Literal["", "*", "[]", "*[]"], Since]
_Rows: TypeAlias = tuple[_Row, ...]

# id, name, type, operations, "*" mandatory "[]" multiple, since
_SECURITY: _Rows = (
    (0, "LwM2M Server URI", _T.STRING, "", "*", "1.0"),
    (1, "Bootstrap-Server", _T.BOOLEAN, "", "*", "1.0"),
    (2, "Security Mode", _T.INTEGER, "", "*", "1.0"),
    (3, "Public Key or Identity", _T.OPAQUE, "", "*", "1.0"),
    (4, "Server Public Key", _T.OPAQUE, "", "*", "1.0"),
    (5, "Secret Key", _T.OPAQUE, "", "*", "1.0"),
    (6, "SMS Security Mode", _T.INTEGER, "", "", "1.0"),
    (7, "SMS Binding Key Parameters", _T.OPAQUE, "", "", "1.0"),
    (8, "SMS Binding Secret Key(s)", _T.OPAQUE, "", "", "1.0"),
    (9, "LwM2M Server SMS Number", _T.STRING, "", "", "1.0"),
    (10, "Short Server ID", _T.INTEGER, "", "", "1.0"),
    (11, "Client Hold Off Time", _T.INTEGER, "", "", "1.0"),
    (12, "Bootstrap-Server Account Timeout", _T.INTEGER, "", "", "1.0"),
    (13, "Matching Type", _T.UNSIGNED, "", "", "1.1"),
    (14, "SNI", _T.STRING, "", "", "1.1"),
    (15, "Certificate Usage", _T.UNSIGNED, "", "", "1.1"),
    (16, "DTLS/TLS Ciphersuite", _T.UNSIGNED, "", "[]", "1.1"),
    (17, "OSCORE Security Mode", _T.OBJLNK, "", "", "1.1"),
    (18, "Groups To Use by Client", _T.UNSIGNED, "", "[]", "1.2"),
    (19, "Signature Algorithms Supported by Server", _T.UNSIGNED, "", "[]", "1.2"),
    (20, "Signature Algorithms To Use by Client", _T.UNSIGNED, "", "[]", "1.2"),
    (21, "Signature Algorithm Certs Supported by Server", _T.UNSIGNED, "", "[]", "1.2"),
    (22, "TLS 1.3 Features To Use by Client", _T.UNSIGNED, "", "", "1.2"),
    (23, "TLS Extensions Supported by Server", _T.UNSIGNED, "", "", "1.2"),
    (24, "TLS Extensions To Use by Client", _T.UNSIGNED, "", "", "1.2"),
    (25, "Secondary LwM2M Server URI", _T.STRING, "", "[]", "1.2"),
    (26, "MQTT Server", _T.OBJLNK, "", "", "1.2"),
    (27, "LwM2M COSE Security", _T.OBJLNK, "", "[]", "1.2"),
    (28, "RDS Destination Port", _T.INTEGER, "", "", "1.2"),
    (29, "RDS Source Port", _T.INTEGER, "", "", "1.2"),
    (30, "RDS Application ID", _T.STRING, "", "", "1.2"),
)
_SERVER: _Rows = (
    (0, "Short Server ID", _T.INTEGER, "R", "*", "1.0"),
    (1, "Lifetime", _T.INTEGER, "RW", "*", "1.0"),
    (2, "Default Minimum Period", _T.INTEGER, "RW", "", "1.0"),
    (3, "Default Maximum Period", _T.INTEGER, "RW", "", "1.0"),
    (4, "Disable", _T.NONE, "E", "", "1.0"),
    (5, "Disable Timeout", _T.INTEGER, "RW", "", "1.0"),
    (6, "Notification Storing When Disabled or Offline", _T.BOOLEAN, "RW", "*", "1.0"),
    (7, "Binding", _T.STRING, "RW", "*", "1.0"),
    (8, "Registration Update Trigger", _T.NONE, "E", "*", "1.0"),
    (9, "Bootstrap-Request Trigger", _T.NONE, "E", "", "1.1"),
    (10, "APN Link", _T.OBJLNK, "RW", "", "1.1"),
    (11, "TLS-DTLS Alert Code", _T.UNSIGNED, "R", "", "1.1"),
    (12, "Last Bootstrapped", _T.TIME, "R", "", "1.1"),
    (13, "Registration Priority Order", _T.UNSIGNED, "R", "", "1.1"),
    (14, "Initial Registration Delay Timer", _T.UNSIGNED, "RW", "", "1.1"),
    (15, "Registration Failure Block", _T.BOOLEAN, "R", "", "1.1"),
    (16, "Bootstrap on Registration Failure", _T.BOOLEAN, "R", "", "1.1"),
    (17, "Communication Retry Count", _T.UNSIGNED, "RW", "", "1.1"),
    (18, "Communication Retry Timer", _T.UNSIGNED, "RW", "", "1.1"),
    (19, "Communication Sequence Delay Timer", _T.UNSIGNED, "RW", "", "1.1"),
    (20, "Communication Sequence Retry Count", _T.UNSIGNED, "RW", "", "1.1"),
    (21, "Trigger", _T.BOOLEAN, "RW", "", "1.1"),
    (22, "Preferred Transport", _T.STRING, "RW", "", "1.1"),
    (23, "Mute Send", _T.BOOLEAN, "RW", "", "1.1"),
    (24, "Alternate APN Links", _T.OBJLNK, "RW", "[]", "1.2"),
    (25, "Supported Server Versions", _T.STRING, "RW", "[]", "1.2"),
    (26, "Default Notification Mode", _T.INTEGER, "RW", "", "1.2"),
    (27, "Profile ID Hash Algorithm", _T.UNSIGNED, "RW", "", "1.2"),
)
_ACCESS_CONTROL: _Rows = (
    (0, "Object ID", _T.INTEGER, "R", "*", "1.0"),
    (1, "Object Instance ID", _T.INTEGER, "R", "*", "1.0"),
    (2, "ACL", _T.INTEGER, "RW", "[]", "1.0"),
    (3, "Access Control Owner", _T.INTEGER, "RW", "*", "1.0"),
)
_DEVICE: _Rows = (
    (0, "Manufacturer", _T.STRING, "R", "", "1.0"),
    (1, "Model Number", _T.STRING, "R", "", "1.0"),
    (2, "Serial Number", _T.STRING, "R", "", "1.0"),
    (3, "Firmware Version", _T.STRING, "R", "", "1.0"),
    (4, "Reboot", _T.NONE, "E", "*", "1.0"),
    (5, "Factory Reset", _T.NONE, "E", "", "1.0"),
    (6, "Available Power Sources", _T.INTEGER, "R", "[]", "1.0"),
    (7, "Power Source Voltage", _T.INTEGER, "R", "[]", "1.0"),
    (8, "Power Source Current", _T.INTEGER, "R", "[]", "1.0"),
    (9, "Battery Level", _T.INTEGER, "R", "", "1.0"),
    (10, "Memory Free", _T.INTEGER, "R", "", "1.0"),
    (11, "Error Code", _T.INTEGER, "R", "*[]", "1.0"),
    (12, "Reset Error Code", _T.NONE, "E", "", "1.0"),
    (13, "Current Time", _T.TIME, "RW", "", "1.0"),
    (14, "UTC Offset", _T.STRING, "RW", "", "1.0"),
    (15, "Timezone", _T.STRING, "RW", "", "1.0"),
    (16, "Supported Binding and Modes", _T.STRING, "R", "*", "1.0"),
    (17, "Device Type", _T.STRING, "R", "", "1.0"),
    (18, "Hardware Version", _T.STRING, "R", "", "1.0"),
    (19, "Software Version", _T.STRING, "R", "", "1.0"),
    (20, "Battery Status", _T.INTEGER, "R", "", "1.0"),
    (21, "Memory Total", _T.INTEGER, "R", "", "1.0"),
    (22, "ExtDevInfo", _T.OBJLNK, "R", "[]", "1.0"),
)
_OSCORE: _Rows = (
    (0, "OSCORE Master Secret", _T.OPAQUE, "", "*", "1.1"),
    (1, "OSCORE Sender ID", _T.OPAQUE, "", "*", "1.1"),
    (2, "OSCORE Recipient ID", _T.OPAQUE, "", "*", "1.1"),
    (3, "OSCORE AEAD Algorithm", _T.INTEGER, "", "", "1.1"),
    (4, "OSCORE HMAC Algorithm", _T.INTEGER, "", "", "1.1"),
    (5, "OSCORE Master Salt", _T.OPAQUE, "", "", "1.1"),
    (6, "OSCORE ID Context", _T.OPAQUE, "", "", "1.1"),
)


def _define(id: int, name: str, multiple: bool, rows: _Rows) -> ObjectDefinition:
    return ObjectDefinition(
        id,
        name,
        multiple,
        MappingProxyType(
            {
                row_id: Resource(row_id, row_name, type, operations, "[]" in flags, "*" in flags, since)
                for row_id, row_name, type, operations, flags, since in rows
            }
        ),
    )


OBJECTS: Mapping[int, ObjectDefinition] = MappingProxyType(
    {
        0: _define(0, "LwM2M Security", True, _SECURITY),
        1: _define(1, "LwM2M Server", True, _SERVER),
        2: _define(2, "LwM2M Access Control", True, _ACCESS_CONTROL),
        3: _define(3, "Device", False, _DEVICE),
        21: _define(21, "LwM2M OSCORE", True, _OSCORE),
    }
)
"""The objects known by definition, by object id."""
