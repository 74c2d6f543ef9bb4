"""A copy that was cut off, wherever, goes on where it was."""

import re
import signal
import subprocess
import sys
from random import Random

import pytest

from tenterhook.errors import ConfigurationError, StoreUnavailable
from tenterhook.moving import move
from tenterhook.store.copying import verbs
from tenterhook.store.copying.tables import tables
from tests.houses import KEY, SETTINGS, House, Houses, Pair, filled, furnished, moved, ways
from tests.test_cli import TIMEOUT, clean

# going on after an interruption


def dying(step: int, *urls: str) -> "subprocess.CompletedProcess[str]":
    """`tenterhook copy`, killed at a step of its code; 0 lets it live."""
    words = [sys.executable, "-m", "tests.dying", str(step), "copy", *urls, "--json"]
    environ = clean(TENTERHOOK_SECRET=KEY)
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def copied(house: House) -> int:
    """How many rows of an unfinished copy are there; -1 if it has not begun."""
    ((rows,),) = house.execute("SELECT coalesce(sum(copied), -1) FROM copying")
    assert rows in (-1, total(house))
    return int(rows)


def total(house: House) -> int:
    return sum(len(house.rows(table)) for table in tables())


@ways
async def test_a_copy_that_is_killed_anywhere_goes_on(pair: Pair, houses: Houses) -> None:
    source, whole, target = await filled(houses, pair[0]), houses(pair[1]), houses(pair[1])
    lived = dying(0, source.url, whole.url)
    steps = int(re.findall(r"^steps (\d+)$", lived.stderr, re.MULTILINE)[0])
    await (await target.open()).close()
    random, seen = Random(f"{pair}"), [-1]
    while copied(target) < total(source):
        killed = dying(random.randrange(steps // 8, steps // 3), source.url, target.url)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        if copied(target) >= 0:
            with pytest.raises(StoreUnavailable, match="not complete"):
                await target.open()
        seen.append(copied(target))
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    killed = dying(random.randrange(steps // 8, steps // 3), source.url, target.url)  # while it compares
    assert killed.returncode == -signal.SIGKILL
    ended = dying(0, source.url, target.url)
    assert ended.returncode == 0, ended.stderr
    assert all(target.rows(table) == source.rows(table) for table in tables())
    await (await target.open()).close()


async def test_only_the_same_source_goes_on(houses: Houses) -> None:
    source, other, target = await furnished(houses, "sqlite"), await furnished(houses, "sqlite"), houses("sqlite")
    async with move(source.url, target.url, SETTINGS) as both:
        await both.target.run(verbs.begin(both.source.name))
    with pytest.raises(ConfigurationError, match=r"holds a part of a copy of sqlite:///.*Nothing was copied"):
        await moved(other, target)
    assert all(each.same for each in await moved(source, target))
