"""A node that dies between any two calls of the engine leaves no ghost (E2, E7; F-45, F-87, F-91).

For each thing that a node does, and for each k: exactly k calls get through and are carried out, then the node dies.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.test_nodes_faults import check_no_ghosts, left
from rtm_sansio.config import ClientConfig, ServerConfig
from rtm_sansio.events import MemberJoined
from rtm_sansio.testing import VirtualClient, World

Deed = Callable[[World, VirtualClient], None]


def _login(world: World, alice: VirtualClient) -> None:
    newcomer = world.client(node=0)
    newcomer.login("newcomer", wait=False)


def _join(world: World, alice: VirtualClient) -> None:
    alice.call(lambda: alice.core.join("den", now=world.now))


def _leave(world: World, alice: VirtualClient) -> None:
    alice.call(lambda: alice.core.leave("lobby", now=world.now))


def _logout(world: World, alice: VirtualClient) -> None:
    alice.logout(wait=False)


def _takeover(world: World, alice: VirtualClient) -> None:
    world.client(node=0).login("alice", wait=False)


def _takeover_of_another_node(world: World, alice: VirtualClient) -> None:
    world.client(node=0).login("witness", wait=False)


def _kick(world: World, alice: VirtualClient) -> None:
    world.nodes[0].hub.kick("alice", now=world.now)


def _ban(world: World, alice: VirtualClient) -> None:
    world.nodes[0].hub.ban("alice", 10.0, now=world.now)


def _detach(world: World, alice: VirtualClient) -> None:
    alice.network.cut()


def _expiry(world: World, alice: VirtualClient) -> None:
    """What an expiry leaves is begun by the node that dies, and by no other: they stand still."""
    alice.network.cut()
    world.run(29.9)
    world.nodes[1].engine.stall(2.0)


def _publish(world: World, alice: VirtualClient) -> None:
    alice.post("lobby", "last words")


def _messages_and_leave(world: World, alice: VirtualClient) -> None:
    alice.post("lobby", "last words")
    alice.call(lambda: alice.core.leave("lobby", now=world.now))
    alice.call(lambda: alice.core.join("den", now=world.now))
    alice.logout(wait=False)


def _return(world: World, alice: VirtualClient) -> None:
    """A resume with a statement that leaves one channel and keeps the other."""
    alice.network.cut()
    world.run(1.0)
    alice.call(lambda: alice.core.leave("lobby", now=world.now))
    alice.network.restore()


def _return_too_late(world: World, alice: VirtualClient) -> None:
    """An automatic re-login, with a statement that joins anew."""
    alice.network.cut()
    world.run(40.0)
    alice.network.restore()


def _death_of_another(world: World, alice: VirtualClient) -> None:
    """The node that carries out what follows from another one's death dies as well."""
    world.login("carol", "lobby", node=2)
    world.kill_node(2)
    world.nodes[1].engine.stall(3.0)
    world.run(4.0)


DEEDS = [
    _login,
    _join,
    _leave,
    _logout,
    _takeover,
    _takeover_of_another_node,
    _kick,
    _ban,
    _detach,
    _expiry,
    _publish,
    _messages_and_leave,
    _return,
    _return_too_late,
    _death_of_another,
]


@pytest.mark.parametrize("comes_back", [False, True])
@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__.strip("_"))
def test_a_crash_between_two_homes(deed: Deed, comes_back: bool) -> None:
    """E2: whichever call is the last one, after the times of grace no channel has a member without a session, no user
    lists a channel that it is not in, and nothing is left to do. Each witness saw at most one leave for each join."""
    for calls in range(40):
        world = World(
            seed=calls,
            nodes=3,
            client_config=ClientConfig(request_timeout_seconds=60.0),
            server_config=ServerConfig(lease_renewal_seconds=2.9),
        )
        world.run(1.0)
        bystander = world.login("bystander", "lobby", "den", node=1)
        world.login("witness", "lobby", node=1)
        alice = world.login("alice", "lobby", "attic", node=0)
        link = world.nodes[0].engine
        link.die_after(calls)
        deed(world, alice)
        world.run(2.0)
        begun = not world.nodes[0].running  # else all of it was done, and this is the last k
        world.run(10.0)
        if comes_back:
            world.start_server(0)
        world.run(45.0)  # more than the times of grace: the lease, and the presence behind it
        check_no_ghosts(world)
        for uid in ("alice", "carol"):
            joins = [one for one in bystander.of_type(MemberJoined) if one.uid == uid]
            assert len(left(bystander, uid)) <= len(joins)
        assert bystander.state.value == "CONNECTED"
        if not begun:
            assert calls > 0
            return
    raise AssertionError("the deed is never done")
