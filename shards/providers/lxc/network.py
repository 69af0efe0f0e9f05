"""Network of the containers: an isolated bridge, and rules on the host that containers cannot change.

A container may only reach the host, on the ports in the settings, from its own addresses. Containers cannot reach each
other, nothing is forwarded, and there is no IPv6. Every slot has a fixed device, MAC and address, so the rules are
written once for all slots and do not change when a container starts.
"""

from __future__ import annotations

import fcntl
import hashlib
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

from shards.providers.errors import ProviderError
from shards.providers.lxc.commands import attempt, failure, run
from shards.providers.lxc.host import IDS_PER_CONTAINER, LxcHost

PROXY_USER = "tinyproxy"
_SUB_ID_FILES = (Path("/etc/subuid"), Path("/etc/subgid"))
# Addresses to which an allowed name must not resolve: this machine, its networks and the cloud's metadata.
_PRIVATE = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
)
_PRIVATE_6 = (
    *("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001:db8::/32", "2002::/16", "3fff::/20"),
    *("fc00::/7", "fe80::/10", "ff00::/8"),
)

_RULES = """\
table bridge {table}
delete table bridge {table}
table inet {table}
delete table inet {table}

table bridge {table} {{
  comment "{digest}"
  set slots {{
    type ifname . ether_addr . ipv4_addr
    elements = {{ {slots} }}
  }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname "{bridge}-*" jump container
  }}
  chain container {{
    ether type ip iifname . ether saddr . ip saddr @slots accept
    ether type arp iifname . ether saddr . arp saddr ip @slots accept
    drop
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname "{bridge}-*" drop
    oifname "{bridge}-*" drop
  }}
}}

table inet {table} {{
  comment "{digest}"
  chain prerouting {{
    type filter hook prerouting priority -10; policy accept;
    iifname "{bridge}" fib daddr type != local reject with icmpx type admin-prohibited
  }}
  chain input {{
    type filter hook input priority -10; policy accept;
    iifname "{bridge}" jump container
  }}
  chain container {{
    ct state established,related accept
    ip daddr . tcp dport {{ {allowed} }} accept
    reject with icmpx type admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    iifname "{bridge}" drop
    oifname "{bridge}" drop
  }}
{proxy}}}
"""
_PROXY_RULES = """\
  chain output {{
    type filter hook output priority -10; policy accept;
    meta skuid {user} ct state new jump proxy
  }}
  chain proxy {{
    meta l4proto {{ tcp, udp }} th dport 53 accept
    {permitted}ip daddr {{ {private} }} reject
    ip6 daddr {{ {private_6} }} reject
  }}
"""


def table(host: LxcHost) -> str:
    return f"myctobot_{host.bridge}"


def rules(host: LxcHost, proxy_user: int | None) -> str:
    """Return all rules for nft, which replace the present ones atomically.

    Args:
        proxy_user: user id of the filtering proxy, which must not connect to private addresses; None without a proxy.
    """
    allowed = {*host.allowed, (host.address, host.egress_port)}
    values = {
        "table": table(host),
        "bridge": host.bridge,
        "slots": ", ".join(f'"{slot.veth}" . {slot.mac} . {slot.address}' for slot in host.slots),
        "allowed": ", ".join(f"{address} . {port}" for address, port in sorted(allowed)),
        "proxy": "" if proxy_user is None else _proxy_rules(proxy_user, host.private_networks),
    }
    # The digest identifies the settings of the loaded rules.
    digest = hashlib.sha256(_RULES.format(**values, digest="").encode()).hexdigest()[:16]
    return _RULES.format(**values, digest=digest)


def _proxy_rules(user: int, private_networks: Sequence[IPv4Network]) -> str:
    permitted = ", ".join(map(str, private_networks))
    return _PROXY_RULES.format(
        user=user,
        permitted=f"ip daddr {{ {permitted} }} accept\n    " if permitted else "",
        private=", ".join(_PRIVATE),
        private_6=", ".join(_PRIVATE_6),
    )


def proxy_user() -> int | None:
    """Return the proxy's user id, or None if the user does not exist."""
    try:
        return pwd.getpwnam(PROXY_USER).pw_uid
    except KeyError:
        return None


def _make_proxy_user() -> None:
    """Create the proxy's user, because the package tinyproxy-bin does not, and tinyproxy would start a service."""
    if proxy_user() is None:
        options = ("--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin")
        done = attempt("useradd", *options, PROXY_USER)
        # Another setup may have made it at the same moment.
        if done.returncode and proxy_user() is None:
            raise failure(("useradd",), done.stderr)


def set_up(host: LxcHost) -> None:
    """Create the proxy's user and the bridge, load the rules, and reserve the user ids; repair them if they exist.

    The rules are loaded first, so that the bridge never exists without them.
    """
    _make_proxy_user()
    run("nft", "--file", "-", text=rules(host, proxy_user()))
    if not _bridge_exists(host):
        run("ip", "link", "add", host.bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0")
    own = Path(f"/proc/sys/net/ipv6/conf/{host.bridge}/disable_ipv6")
    if own.exists():
        own.write_text("1")
    run("ip", "address", "replace", f"{host.address}/{host.network.prefixlen}", "dev", host.bridge)
    run("ip", "link", "set", host.bridge, "up")
    with _sub_ids_locked():
        for file in _SUB_ID_FILES:
            _reserve(file, host)


def tear_down(host: LxcHost) -> None:
    """Undo ``set_up``; does nothing if it is undone."""
    if _bridge_exists(host):
        run("ip", "link", "delete", host.bridge)
    for family in ("bridge", "inet"):
        if _has_table(host, family):
            run("nft", "delete", "table", family, table(host))
    with _sub_ids_locked():
        for file in _SUB_ID_FILES:
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
            kept = [line for line in lines if line.strip() != _reservation(host)]
            if kept != lines:
                file.write_text("".join(kept), encoding="utf-8")


def problems(host: LxcHost) -> list[str]:
    """Return what is missing of ``set_up``."""
    wrong = []
    if not _bridge_exists(host):
        wrong.append(f"There is no bridge {host.bridge}")
    digest = rules(host, proxy_user()).partition('comment "')[2].partition('"')[0]
    tables = [attempt("nft", "list", "table", family, table(host)) for family in ("bridge", "inet")]
    if any(found.returncode for found in tables):
        wrong.append(f"The rules of {host.bridge} are not loaded")
    elif any(f'comment "{digest}"' not in found.stdout for found in tables):
        wrong.append(f"The rules of {host.bridge} belong to other settings")
    if not all(file.exists() and _reservation(host) in file.read_text().splitlines() for file in _SUB_ID_FILES):
        wrong.append("No user ids are reserved for containers in /etc/subuid and /etc/subgid")
    return [f"{what}; run 'manage.py lxc setup'." for what in wrong]


@contextmanager
def _sub_ids_locked() -> Iterator[None]:
    """Hold the lock of lckpwdf(3), so that no other setup and no ``useradd`` loses a line of these files."""
    with Path("/etc/.pwd.lock").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def _reservation(host: LxcHost) -> str:
    slots = host.slots
    return f"root:{slots[0].first_id}:{len(slots) * IDS_PER_CONTAINER}"


def _reserve(file: Path, host: LxcHost) -> None:
    """Add the line that reserves the user ids for root.

    Raises:
        ProviderError: another user has some of them.
    """
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    mine = _reservation(host)
    if mine in lines:
        return
    _, first, count = mine.split(":")
    for line in lines:
        user, other_first, other_count = line.split(":") if line.count(":") == 2 else ("root", "0", "0")
        apart = int(other_first) + int(other_count) <= int(first) or int(first) + int(count) <= int(other_first)
        if not apart:
            raise ProviderError(
                f"{file} reserves user ids of the containers for '{user}'; choose another LXC_FIRST_ID."
            )
    file.write_text("".join(f"{line}\n" for line in [*lines, mine]), encoding="utf-8")


def _bridge_exists(host: LxcHost) -> bool:
    return Path(f"/sys/class/net/{host.bridge}/bridge").is_dir()


def _has_table(host: LxcHost, family: str) -> bool:
    return attempt("nft", "list", "table", family, table(host)).returncode == 0
