"""The engine in virtual time: a few hundred seeds of `make simulate`."""

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.check import check, check_isolation, check_repeats

SEEDS_PER_CHUNK = 25


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Planted faults are logged as what they look like."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, 300, SEEDS_PER_CHUNK))
def test_every_invariant_holds(first: int) -> None:
    broken = {seed: wrong for seed in range(first, first + SEEDS_PER_CHUNK) if (wrong := check(seed))}
    assert not broken, f"look closer: python -m bench.simulate --from {min(broken)} --seeds 1 --trace\n{broken}"


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_leaves_the_same_trace(seed: int) -> None:
    assert check_repeats(seed) == []


def test_dead_endpoints_do_not_delay_the_living() -> None:
    assert check_isolation(0) == []
