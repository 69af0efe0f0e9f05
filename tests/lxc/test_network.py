"""Network access of a container's root: only the allowed ports, with any address that it claims."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from shards.providers.lxc import network
from shards.providers.lxc.commands import attempt, run
from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.provider import LxcProvider
from tests.fixtures.provider_contract import Notes

from .conftest import ALLOWED_PORT, GATEWAY, NETWORK, running
from .inside import inside, output, python, ssh, wait_booted

FORBIDDEN_PORT = 18001
OTHER_BRIDGE, OTHER_ADDRESS = "mctbtother", "10.215.9.1"
_CONNECT = """
import socket, sys
address, port, source = sys.argv[1], int(sys.argv[2]), sys.argv[3]
try:
    with socket.create_connection((address, port), 2, (source, 0) if source else None) as connection:
        print("connected", connection.recv(20).decode())
except OSError as error:
    print("refused")
"""
_SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    try:
        sender.sendto(b"question", (sys.argv[1], int(sys.argv[2])))
    except OSError:
        pass
"""
# An unrequested ARP answer claims that the address in argv has the sender's MAC address.
_CLAIM = """
import socket, sys
mine = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
claimed, asked = socket.inet_aton(sys.argv[1]), socket.inet_aton(sys.argv[2])
everybody = b"\\xff" * 6
frame = everybody + mine + bytes.fromhex("0806" "0001080006040002") + mine + claimed + everybody + asked
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind(("eth0", 0))
    for _ in range(20):
        raw.send(frame)
print("sent")
"""
_LISTEN = """
import socket, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
raw.settimeout(0.2)
end = time.monotonic() + 3
seen = 0
while time.monotonic() < end:
    try:
        seen += b"overheard" in raw.recv(2000)
    except TimeoutError:
        pass
print(seen)
"""
_SHOUT = """
import socket
mine = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind(("eth0", 0))
    for kind in (b"\\x08\\x00", b"\\x88\\xb5", b"\\x86\\xdd", b"\\x81\\x00"):
        for _ in range(20):
            raw.send(b"\\xff" * 6 + mine + kind + b"overheard" * 10)
"""


@pytest.fixture(scope="module")
def pair(host: LxcHost) -> Iterator[tuple[LxcProvider, str, str]]:
    """Start two containers for all tests of this file."""
    maker = LxcProvider(host)
    alpha, beta = running(maker, "alpha"), running(maker, "beta")
    for ref in (alpha, beta):
        wait_booted(maker, ref)
    yield maker, alpha, beta
    for one in maker.list():
        maker.destroy(one.ref, Notes())


@pytest.fixture(scope="module")
def servers(host: LxcHost) -> Iterator[list[str]]:
    """Serve an allowed port, a forbidden one and the proxy's port on the host; yield the clients' addresses."""
    came: list[str] = []
    ports = (ALLOWED_PORT, FORBIDDEN_PORT, host.egress_port)

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, (address, _) = listener.accept()
                with connection:
                    came.append(address)
                    connection.sendall(b"welcome")

    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("", port))) for port in ports]
        threads = [threading.Thread(target=serve, args=(listener,)) for listener in listeners]
        for thread in threads:
            thread.start()
        yield came
        for listener, thread in zip(listeners, threads, strict=True):
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


Pair = tuple[LxcProvider, str, str]


def connect(pair: Pair, address: str, port: int, source: str = "") -> str:
    maker, alpha, _ = pair
    return python(maker, alpha, _CONNECT, address, str(port), source)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[list[str]]:
    """Yield the host's addresses on its other networks, at least one of which the fixture creates."""
    # A killed run leaves the bridge behind.
    attempt("ip", "link", "delete", OTHER_BRIDGE)
    run("ip", "link", "add", OTHER_BRIDGE, "type", "bridge")
    try:
        run("ip", "address", "add", f"{OTHER_ADDRESS}/24", "dev", OTHER_BRIDGE)
        run("ip", "link", "set", OTHER_BRIDGE, "up")
        lines = run("ip", "-4", "-oneline", "address", "show", "scope", "global").splitlines()
        addresses = [line.split()[3].partition("/")[0] for line in lines]
        yield [address for address in addresses if IPv4Address(address) not in NETWORK]
    finally:
        run("ip", "link", "delete", OTHER_BRIDGE)


def test_a_container_reaches_the_allowed_ports(pair: Pair, servers: list[str], host: LxcHost) -> None:
    assert connect(pair, str(GATEWAY), ALLOWED_PORT) == "connected welcome"
    assert connect(pair, str(GATEWAY), host.egress_port) == "connected welcome"
    maker, alpha, _ = pair
    assert servers[-1] == maker.status(alpha).address


def test_the_host_reaches_a_container(pair: Pair) -> None:
    maker, alpha, _ = pair
    assert ssh(maker, alpha, "hostname").stdout == "alpha\n"


@pytest.mark.parametrize("address", [str(GATEWAY), "10.214.0.255", "224.0.0.1"])
def test_a_container_reaches_no_other_port_of_the_host(pair: Pair, servers: list[str], address: str) -> None:
    before = len(servers)
    assert connect(pair, address, FORBIDDEN_PORT) == "refused"
    assert len(servers) == before


@pytest.mark.parametrize("port", [ALLOWED_PORT, FORBIDDEN_PORT])
def test_no_port_of_the_host_is_open_on_its_other_networks(
    pair: Pair, servers: list[str], elsewhere: list[str], port: int
) -> None:
    assert OTHER_ADDRESS in elsewhere
    before = len(servers)
    for address in elsewhere:
        assert connect(pair, address, port) == "refused", address
    assert len(servers) == before


@pytest.mark.parametrize(
    ("address", "port"), [("1.1.1.1", 443), ("169.254.169.254", 80), ("192.168.0.1", 80), ("10.213.0.2", 22)]
)
def test_the_host_forwards_no_connection(pair: Pair, address: str, port: int) -> None:
    assert connect(pair, address, port) == "refused"


def test_the_host_forwards_no_connection_even_with_ip_forwarding(pair: Pair, servers: list[str]) -> None:
    switch = Path("/proc/sys/net/ipv4/ip_forward")
    before = switch.read_text()
    switch.write_text("1")
    try:
        assert connect(pair, "1.1.1.1", 443) == "refused"
    finally:
        switch.write_text(before)


def test_containers_cannot_reach_each_other(pair: Pair) -> None:
    maker, _, beta = pair
    assert ssh(maker, beta, "true").returncode == 0
    assert connect(pair, str(maker.status(beta).address), 22) == "refused"


def test_containers_cannot_reach_each_other_by_ipv6(pair: Pair) -> None:
    maker, _, beta = pair
    inner = output(maker, beta, "ip", "-6", "-oneline", "address", "show", "dev", "eth0", "scope", "link")
    assert connect(pair, f"{inner.split()[3].partition('/')[0]}%eth0", 22) == "refused"


def test_no_datagram_from_a_container_arrives(pair: Pair) -> None:
    maker, alpha, _ = pair
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((str(GATEWAY), 53))
        server.settimeout(1)
        for port in ("53", "53"):
            python(maker, alpha, _SEND, str(GATEWAY), port)
        with pytest.raises(TimeoutError):
            server.recvfrom(100)


def test_a_foreign_source_address_is_refused(pair: Pair, servers: list[str]) -> None:
    maker, alpha, beta = pair
    before = list(servers)
    for stolen in (str(maker.status(beta).address), str(NETWORK[77]), "192.0.2.7"):
        inside(maker, alpha, "ip", "address", "add", f"{stolen}/24", "dev", "eth0")
        assert connect(pair, str(GATEWAY), ALLOWED_PORT, source=stolen) == "refused"
        inside(maker, alpha, "ip", "address", "del", f"{stolen}/24", "dev", "eth0")
    assert servers == before


def test_a_foreign_mac_address_is_refused(pair: Pair, servers: list[str], host: LxcHost) -> None:
    maker, alpha, _ = pair
    own = output(maker, alpha, "cat", "/sys/class/net/eth0/address")
    output(maker, alpha, "ip", "link", "set", "eth0", "address", host.slot(99).mac)
    try:
        assert connect(pair, str(GATEWAY), ALLOWED_PORT) == "refused"
    finally:
        output(maker, alpha, "ip", "link", "set", "eth0", "address", own)
    assert connect(pair, str(GATEWAY), ALLOWED_PORT) == "connected welcome"


def test_a_container_cannot_take_another_address_by_arp(pair: Pair, host: LxcHost) -> None:
    maker, alpha, beta = pair
    victim = maker.status(beta).address
    assert ssh(maker, beta, "true").returncode == 0
    assert python(maker, alpha, _CLAIM, str(victim), str(GATEWAY)) == "sent"
    mine = output(maker, alpha, "cat", "/sys/class/net/eth0/address")
    assert mine not in run("ip", "neighbour", "show", str(victim), "dev", host.bridge)
    assert ssh(maker, beta, "hostname").stdout == "beta\n"


def test_a_container_receives_no_frames_of_another(pair: Pair) -> None:
    maker, alpha, beta = pair
    received: list[str] = []
    listener = threading.Thread(target=lambda: received.append(python(maker, beta, _LISTEN)))
    listener.start()
    for _ in range(5):
        python(maker, alpha, _SHOUT)
    listener.join()
    assert received == ["0"]


def test_root_of_a_container_cannot_see_or_change_the_rules(pair: Pair, servers: list[str]) -> None:
    maker, alpha, _ = pair
    assert not inside(maker, alpha, "ls", f"/sys/class/net/{maker.host.bridge}").stdout
    # Routes of the container affect only its own side.
    inside(maker, alpha, "ip", "route", "replace", "default", "via", str(GATEWAY), "onlink", "dev", "eth0")
    assert connect(pair, str(GATEWAY), FORBIDDEN_PORT) == "refused"


def test_a_repeated_setup_changes_nothing(pair: Pair, servers: list[str], host: LxcHost) -> None:
    network.set_up(host)
    network.set_up(host)
    assert network.problems(host) == []
    assert Path("/etc/subuid").read_text().count(f"root:{host.slot(2).first_id}:") == 1
    assert connect(pair, str(GATEWAY), ALLOWED_PORT) == "connected welcome"
