"""Answers that are remembered by random keys: found at once, after they have gone into the index, and after a restart."""

import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from tenterhook.clock import DAY, HOUR
from tenterhook.errors import Conflict
from tenterhook.store import sqlite_answers
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept, Accepted, Remember, Remembered
from tenterhook.vault import Vault
from tests.contracts.store import NOW, new_app

RECENT = 300
COUNT = 160 * sqlite_answers.STRETCHES  # a walk takes 128 keys for each stretch


def answer(number: int, *, until: int = NOW + HOUR, made_at: int = NOW, text: str = "") -> Remember:
    key = sha256(b"%d" % number).digest()[:16]
    return Remember(key, b"hash", 202, (text or str(number)).encode(), until, made_at)


def remembered(number: int) -> Remembered:
    return Remembered(b"hash", 202, b"%d" % number)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], SqliteStore]:
    monkeypatch.setattr(sqlite_answers, "RECENT", RECENT)
    return lambda: SqliteStore.open(tmp_path / "t.db", Vault([b"0" * 32]), synchronous="OFF")


async def remember(store: SqliteStore, answers: list[Remember], at_once: int = sqlite_answers.PAGE) -> list[Accepted]:
    done: list[Accepted] = []
    for start in range(0, len(answers), at_once):
        found = await store.commit([Accept(None, (), None, one) for one in answers[start : start + at_once]])
        done += [one for one in found if isinstance(one, Accepted)]
    return done


def count(path: Path, table: str) -> int:
    with sqlite3.connect(path / "t.db") as db:
        found: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return found


def walked(path: Path) -> tuple[int, int]:
    """Up to which page all keys should be in the index, and how many of them are not."""
    with sqlite3.connect(path / "t.db") as db:
        (upto,) = db.execute("SELECT id FROM answered_upto").fetchone()
        pages = db.execute("SELECT answers FROM answered WHERE id <= ?", (upto,)).fetchall()
        indexed = {key for (key,) in db.execute("SELECT key FROM answered_key")}
    return upto, sum(one[0] not in indexed for (page,) in pages for one in msgspec.msgpack.decode(page))


async def test_every_key_is_known_again_wherever_it_is(opened: Callable[[], SqliteStore], tmp_path: Path) -> None:
    store = opened()
    done = await remember(store, [answer(n) for n in range(COUNT)])
    assert all(one.remembered is None for one in done)
    upto, missing = walked(tmp_path)
    assert (upto * sqlite_answers.PAGE > RECENT, missing) == (True, 0)
    again = await remember(store, [answer(n, text="other") for n in range(COUNT)])
    assert [one.remembered for one in again] == [remembered(n) for n in range(COUNT)]
    assert count(tmp_path, "answered") == COUNT // sqlite_answers.PAGE
    await store.close()


@pytest.mark.parametrize("many", [100, COUNT // 2, COUNT])
async def test_a_restart_in_the_middle_of_a_walk_forgets_none(opened: Callable[[], SqliteStore], many: int) -> None:
    store = opened()
    await remember(store, [answer(n) for n in range(many)])
    await store.close()
    store = opened()
    again = await remember(store, [answer(n, text="other") for n in range(many)])
    assert [one.remembered for one in again] == [remembered(n) for n in range(many)]
    await store.close()


async def test_what_is_rolled_back_is_not_remembered(opened: Callable[[], SqliteStore]) -> None:
    store = opened()
    await remember(store, [answer(1)])
    broken = Remember(answer(3).key, b"hash", "not a number", None, NOW + HOUR)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        await store.commit([Accept(None, (), None, one) for one in (answer(2), broken)])
    assert await store.recall(answer(2).key, NOW) is None
    done = await remember(store, [answer(1), answer(2)])
    assert [one.remembered for one in done] == [remembered(1), None]
    assert await store.recall(answer(2).key, NOW) == remembered(2)
    await store.close()


async def test_walks_that_are_rolled_back_are_taken_again(opened: Callable[[], SqliteStore]) -> None:
    store = opened()
    broken = Remember(b"broken", b"hash", 202, None, NOW + HOUR)  # type: ignore[arg-type]
    for start in range(0, COUNT, 64):
        answers = [answer(n) for n in range(start, start + 64)]
        with pytest.raises(sqlite3.IntegrityError):
            await store.commit([Accept(None, (), None, one) for one in (*answers, broken)])
        await remember(store, answers)
    again = await remember(store, [answer(n, text="other") for n in range(COUNT)])
    assert [one.remembered for one in again] == [remembered(n) for n in range(COUNT)]
    await store.close()


async def test_a_large_commit_has_several_pages(opened: Callable[[], SqliteStore], tmp_path: Path) -> None:
    store = opened()
    many = 3 * sqlite_answers.PAGE + 1
    await remember(store, [answer(n) for n in range(many)], at_once=many)
    assert count(tmp_path, "answered") == 4
    for reopened in range(2):
        again = await remember(store, [answer(n, text="other") for n in range(many)], at_once=many)
        assert [one.remembered for one in again] == [remembered(n) for n in range(many)], reopened
        await store.close()
        store = opened()
    assert (
        await store.prune(NOW + HOUR, 0, 1) == sqlite_answers.PAGE
    )  # at least so many, and no more than a page beyond
    assert await store.prune(NOW + HOUR, 0, 1_000) == 2 * sqlite_answers.PAGE
    await store.close()


async def test_a_key_that_has_expired_may_be_used_again(opened: Callable[[], SqliteStore]) -> None:
    store = opened()
    await remember(store, [answer(n) for n in range(COUNT)])
    later = NOW + HOUR
    fresh = [answer(n, until=later + HOUR, made_at=later, text=f"again {n}") for n in range(COUNT)]
    assert all(one.remembered is None for one in await remember(store, fresh))
    for n in (0, COUNT // 2, COUNT - 1):
        assert await store.recall(answer(n).key, later) == Remembered(b"hash", 202, b"again %d" % n)
    await store.close()


async def test_expired_answers_go_with_their_keys_and_ids_are_not_given_again(
    opened: Callable[[], SqliteStore], tmp_path: Path
) -> None:
    store = opened()
    await remember(store, [answer(n, until=NOW + 1) for n in range(COUNT)])
    while await store.prune(NOW + 1, 0, 1_000):
        pass
    assert (count(tmp_path, "answered"), count(tmp_path, "answered_key") <= 1) == (1, True)
    await store.close()
    store = opened()
    await remember(store, [answer(-1)])
    assert await store.recall(answer(-1).key, NOW) == remembered(-1)
    with sqlite3.connect(tmp_path / "t.db") as db:
        assert db.execute("SELECT max(id) FROM answered").fetchone()[0] == COUNT // sqlite_answers.PAGE + 1
    await store.close()


async def test_what_is_remembered_for_long_keeps_nothing_else(
    opened: Callable[[], SqliteStore], tmp_path: Path
) -> None:
    store = opened()
    month = answer(0, until=NOW + 30 * DAY)
    await remember(store, [month, *(answer(n) for n in range(1, 100))], at_once=10)
    assert await store.prune(NOW + HOUR, 0, 1_000) == 89
    assert (count(tmp_path, "answered"), count(tmp_path, "idempotency")) == (1, 1)
    assert await store.recall(month.key, NOW + DAY) == remembered(0)
    (done,) = await remember(store, [answer(0, made_at=NOW + DAY, until=NOW + 2 * DAY, text="other")])
    assert done.remembered == remembered(0)
    await store.close()


async def test_a_key_of_a_single_verb_is_known_to_batches(opened: Callable[[], SqliteStore]) -> None:
    store = opened()
    await store.create_application(new_app(), answer(1))
    assert await store.recall(answer(1).key, NOW) == remembered(1)
    (done,) = await remember(store, [answer(1, text="other")])
    assert done.remembered == remembered(1)
    with pytest.raises(Conflict):
        await store.create_application(new_app(uid="u"), answer(2))
        await store.create_application(new_app(uid="u"), answer(3))
    assert await store.recall(answer(3).key, NOW) is None
    await store.close()
