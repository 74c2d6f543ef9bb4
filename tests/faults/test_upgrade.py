"""Nodes of two versions on one database, and nodes that must not use it."""

import pytest
from bench.harness import Failed

from tests.faults.conftest import Scale
from tests.faults.nodes import PATIENT, Node, Nodes
from tests.faults.traffic import database, through

RUNNER = "tests.faults.runner"


def newer(nodes: Nodes, migration: str) -> Node:
    """A node of the next version."""
    return nodes.node(module=RUNNER, faults_migration=migration, **PATIENT)


async def refusal(node: Node) -> str:
    """What a node says that does not start."""
    with pytest.raises(Failed) as failed:
        await node.start()
    assert "Traceback" not in str(failed.value)
    return str(failed.value)


async def test_old_and_new_nodes_run_side_by_side(nodes: Nodes, url: str, scale: Scale) -> None:
    old = await nodes.start(2, **PATIENT)
    async with through(nodes) as traffic, database(url) as db:
        before = await db.fetchval("SELECT version FROM schema_version")
        traffic.begin()
        await traffic.more(scale.load)
        await newer(nodes, "gentle").start()
        assert await db.fetchval("SELECT version FROM schema_version") == before + 1
        await traffic.more(scale.load)
        # one by one the old ones go; one that dies meanwhile may come back
        assert await old[0].stop() == 0
        await old[0].start()
        await traffic.more(scale.load)
        for node in old:
            assert await node.stop() == 0
        await traffic.more(scale.load)
        await traffic.end()
        await traffic.verify(url)
        assert not traffic.refused
        assert not traffic.repeated()


async def test_an_old_node_refuses_what_it_cannot_live_with(nodes: Nodes) -> None:
    await newer(nodes, "breaking").start()
    said = await refusal(nodes.node())
    assert "error: the database has schema version" in said
    assert "run a newer one" in said


async def test_a_node_with_another_master_key_is_refused(nodes: Nodes) -> None:
    await nodes.start()
    said = await refusal(nodes.node(secret="another master key of more than 32 characters"))
    assert "error: TENTERHOOK_SECRET is not the master key that this database was set up with" in said
