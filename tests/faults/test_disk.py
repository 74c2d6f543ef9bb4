"""SQLite on a disk that is full: clear refusals, and when there is room again everything goes on by itself.

Any user may take the room from a process by limiting its files. For root there is a small file system, too.
"""

import os
import resource
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.conftest import Scale
from tests.faults.nodes import PATIENT, Nodes
from tests.faults.traffic import SqliteLook, through


class Limit:
    """Room is the largest size that a file of the process may have."""

    words = "disk I/O error"

    def __init__(self, folder: Path, nodes: Nodes) -> None:
        self.folder = folder
        self.node = nodes.node(**PATIENT)

    def look(self) -> SqliteLook:
        return SqliteLook(f"{self.folder}/t.db")

    def take(self) -> None:
        self._set(max(path.stat().st_size for path in self.folder.iterdir()))

    def give(self) -> None:
        self._set(resource.RLIM_INFINITY)

    def _set(self, size: int) -> None:
        process = self.node.server.process.pid
        _, most = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, most))


class Mount:
    """Room is that of a file system, which only the process sees."""

    words = "database or disk is full"

    def __init__(self, folder: Path, nodes: Nodes) -> None:
        self.folder = folder
        self.node = nodes.node(module="tests.faults.runner", faults_small=str(folder), **PATIENT)

    def look(self) -> SqliteLook:
        return SqliteLook(f"{self.folder}/t.db", self._inside)

    def take(self) -> None:
        with self._rest.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4_096))

    def give(self) -> None:
        self._rest.unlink()

    @property
    def _process(self) -> int:
        return self.node.server.process.pid

    @property
    def _rest(self) -> Path:
        """A file that takes all there is; the system lets others see it through the process."""
        return Path(f"/proc/{self._process}/root{self.folder}/rest")

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", "--mount", "--target", str(self._process)]


def ways() -> list[type[Limit] | type[Mount]]:
    """How this user can take its room from a process."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    can_mount = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    return [Limit, Mount] if can_mount else [Limit]


@pytest.mark.parametrize("way", ways())
async def test_the_disk_is_full(way: type[Limit] | type[Mount], tmp_path: Path, scale: Scale) -> None:
    folder = tmp_path / "database"
    folder.mkdir()
    nodes = Nodes(f"sqlite:///{folder}/t.db", tmp_path)
    room = way(folder, nodes)
    node = await room.node.start()
    try:
        async with through(nodes) as traffic:
            await traffic.source(node)
            traffic.begin()
            await traffic.more(scale.load)
            room.take()
            await traffic.until(lambda: traffic.answers[503] > 20, "refusals")
            while (received := await traffic.receive(node)).status == 200:
                assert len(traffic.accepted) < 10_000  # some still find a place in pages that are there
            for answer in (received, *traffic.refused):
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert answer.json["code"] == "store_unavailable"
            assert any(room.words in answer.json["detail"] for answer in traffic.refused)
            assert (await node.try_call("GET", f"/app/{traffic.app}/msg")).status == 200
            room.give()
            await traffic.more(scale.load)
            assert (await traffic.receive(node)).status == 200
            await traffic.end()
            await traffic.verify_in(room.look())
            assert not traffic.repeated()
        assert await node.stop() == 0
    finally:
        nodes.end()
