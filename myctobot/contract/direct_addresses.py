"""Addresses that agents may reach without the filtering proxy: ``10.0.0.5:5432`` or ``[fd00::2]:443``; pure."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

# In one list; a job's listeners must fit into one message between two processes.
MAX_DIRECT_ADDRESSES: Final = 64
_FORM: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<four>[0-9.]{7,15})):(?P<port>[1-9][0-9]{0,4})")
_MAX_PORT: Final = 65535
_MAX_SHOWN: Final = 60


class DirectAddress(NamedTuple):
    """Address and TCP port of a server."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


def parse_direct_address(text: str) -> DirectAddress:
    """Return an address in its canonical form.

    Raises:
        ValueError: the text is no address with a port, or one that agents may never reach: of the shard itself, of its
            link (there are the cloud's metadata), of many machines, or reserved.
    """
    shown = repr(text[:_MAX_SHOWN])
    found = _FORM.fullmatch(text)
    try:
        ip = ip_address(found["six"] or found["four"]) if found else None
    except ValueError:
        ip = None
    if found is None or ip is None or int(found["port"]) > _MAX_PORT or (found["six"] and ip.version == 4):
        raise ValueError(f"{shown} is not an address with a port, such as 10.0.0.5:5432 or [fd00::2]:443")
    special = ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast or ip.is_reserved
    if special or (isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None):
        raise ValueError(f"{shown} is not the address of one other machine: loopback, link-local or reserved")
    return DirectAddress(str(ip), int(found["port"]))
