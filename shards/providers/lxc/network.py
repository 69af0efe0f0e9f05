"""The containers' network: a bridge without a way out, and rules on the host that no container can change.

A container may talk to the host alone, to the ports that the settings name, with its own addresses. Nothing goes from
one container to another, nothing is forwarded, and there is no IPv6. Every slot has its device, MAC and address for
good, so the rules are written once and name them all: starting a container changes none of them.
"""

from __future__ import annotations

import hashlib
import pwd
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

from shards.providers.errors import ProviderError
from shards.providers.lxc.commands import attempt, run
from shards.providers.lxc.host import IDS_PER_CONTAINER, Host

PROXY_USER = "tinyproxy"
_SUB_ID_FILES = (Path("/etc/subuid"), Path("/etc/subgid"))
# Where a name must not lead that an allowed host's owner chose: this machine, its neighbours, the cloud's own.
_PRIVATE = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
)
_PRIVATE_6 = ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8")

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


def table(host: Host) -> str:
    return f"myctobot_{host.bridge}"


def rules(host: Host, proxy_user: int | None) -> str:
    """All rules, in nft's words; they replace those that are there at once.

    Args:
        proxy_user: the user number of the filtering proxy, which may not be led to private addresses by a name;
            None when there is none.
    """
    allowed = {*host.allowed, (host.address, host.egress_port)}
    values = {
        "table": table(host),
        "bridge": host.bridge,
        "slots": ", ".join(f'"{slot.veth}" . {slot.mac} . {slot.address}' for slot in host.slots),
        "allowed": ", ".join(f"{address} . {port}" for address, port in sorted(allowed)),
        "proxy": "" if proxy_user is None else _proxy_rules(proxy_user, host.private_networks),
    }
    # The digest tells rules of other settings from these.
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
    """The proxy's user number; None when it has none."""
    try:
        return pwd.getpwnam(PROXY_USER).pw_uid
    except KeyError:
        return None


def _make_proxy_user() -> None:
    """Debian's package of the program alone makes none; that of the service would start one."""
    if proxy_user() is None:
        options = ("--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin")
        run("useradd", *options, PROXY_USER)


def set_up(host: Host) -> None:
    """Make the bridge, load the rules, and reserve the user numbers; make the proxy's user where it is missing.

    Done again it only mends what is wrong.

    The rules come first: a bridge is never without them.
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
    for file in _SUB_ID_FILES:
        _reserve(file, host)


def tear_down(host: Host) -> None:
    """Remove all that ``set_up`` made; harmless when it is gone."""
    if _bridge_exists(host):
        run("ip", "link", "delete", host.bridge)
    for family in ("bridge", "inet"):
        if _has_table(host, family):
            run("nft", "delete", "table", family, table(host))
    for file in _SUB_ID_FILES:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        kept = [line for line in lines if line.strip() != _reservation(host)]
        if kept != lines:
            file.write_text("".join(kept), encoding="utf-8")


def problems(host: Host) -> list[str]:
    """What of ``set_up`` is missing."""
    wrong = []
    if not _bridge_exists(host):
        wrong.append(f"There is no bridge {host.bridge}")
    digest = rules(host, proxy_user()).partition('comment "')[2].partition('"')[0]
    tables = [attempt("nft", "list", "table", family, table(host)) for family in ("bridge", "inet")]
    if any(found.returncode for found in tables):
        wrong.append(f"The rules of {host.bridge} are not loaded")
    elif any(f'comment "{digest}"' not in found.stdout for found in tables):
        wrong.append(f"The rules of {host.bridge} are those of other settings")
    if not all(file.exists() and _reservation(host) in file.read_text().splitlines() for file in _SUB_ID_FILES):
        wrong.append("No user numbers are reserved for containers in /etc/subuid and /etc/subgid")
    return [f"{what}; run 'manage.py lxc setup'." for what in wrong]


def _reservation(host: Host) -> str:
    slots = host.slots
    return f"root:{slots[0].first_id}:{len(slots) * IDS_PER_CONTAINER}"


def _reserve(file: Path, host: Host) -> None:
    """Add the line that gives root the numbers.

    Raises:
        ProviderError: somebody else has some of them.
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
                f"{file} gives numbers that containers would use to '{user}'; choose another LXC_FIRST_ID."
            )
    file.write_text("".join(f"{line}\n" for line in [*lines, mine]), encoding="utf-8")


def _bridge_exists(host: Host) -> bool:
    return Path(f"/sys/class/net/{host.bridge}/bridge").is_dir()


def _has_table(host: Host, family: str) -> bool:
    return attempt("nft", "list", "table", family, table(host)).returncode == 0
