"""What becomes of a node that did not hear what another one did: hints may get lost, deliveries must not."""

from pathlib import Path

from msgspec.structs import replace

from tenterhook.model import Outcome, Result
from tenterhook.store.base import Hint
from tests import api

GONE = Outcome(result=Result.GONE, status=410, url=api.URL)


async def switched_off(server: api.Server) -> tuple[str, str]:
    """An application and its endpoint, which has answered 410 to a message that it still owes."""
    app = await server.app()
    endpoint = await server.endpoint(app, retrySchedule=[0.001])
    server.recorder.outcomes = [GONE, api.OK]
    await server.message(app)
    await server.watch.settled(1)
    return app, endpoint


async def test_an_endpoint_that_was_enabled_elsewhere_gets_what_it_owes(tmp_path: Path) -> None:
    async with api.running(tmp_path) as server:
        app, ref = await switched_off(server)
        endpoint = await server.node.registry.endpoint(app, ref)
        assert endpoint.disabled
        # as another node does it, of which this one hears nothing
        enabled = replace(endpoint, disabled=False, updated_at=endpoint.updated_at + 1)
        await server.store.save_endpoint(app, enabled, clean=True)
        await server.node.worker.refresh()
        await server.watch.settled(2)
        assert len(server.recorder.sent) == 2


async def test_a_node_that_only_answers_keeps_no_lanes(tmp_path: Path) -> None:
    async with api.running(tmp_path, role="api") as server:
        app = await server.app()
        await server.endpoint(app)
        await server.message(app)
        server.node._hear(Hint("all"))
        assert server.node.worker._lanes == {}
