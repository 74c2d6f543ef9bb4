"""Sealed values: they open with any listed key, in their own place only, and never otherwise."""

import hmac
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.errors import ConfigurationError, TenterhookError
from tenterhook.vault import KeyMissing, SealBroken, Vault

SEEDED = random.Random(2)
FIRST, SECOND, THIRD = (SEEDED.randbytes(32) for _ in range(3))
TEXT = "0123456789abcdefghijklmnopqrstuvwxyz"
plains = st.binary(max_size=200)
contexts = st.text(st.characters(codec="utf-8"), max_size=40)


@given(plains, contexts)
def test_what_is_sealed_opens(plain: bytes, context: str) -> None:
    vault = Vault([FIRST])
    sealed = vault.seal(plain, context)
    assert vault.open(sealed, context) == plain
    assert len(plain) < 8 or plain not in sealed


@given(st.binary(min_size=1), contexts, contexts)
def test_it_opens_only_where_it_belongs(plain: bytes, context: str, other: str) -> None:
    vault = Vault([FIRST])
    sealed = vault.seal(plain, context)
    if context != other:
        with pytest.raises(SealBroken):
            vault.open(sealed, other)


@given(plains, st.data())
def test_no_bit_can_be_changed(plain: bytes, data: st.DataObject) -> None:
    vault = Vault([FIRST, SECOND])
    sealed = bytearray(vault.seal(plain, "ep_1"))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((SealBroken, KeyMissing)):
        vault.open(bytes(sealed), "ep_1")


@given(plains, st.data())
def test_nothing_can_be_cut_off(plain: bytes, data: st.DataObject) -> None:
    vault = Vault([FIRST])
    sealed = vault.seal(plain, "ep_1")
    with pytest.raises(SealBroken):
        vault.open(sealed[: data.draw(st.integers(0, len(sealed) - 1))], "ep_1")


@given(st.binary(max_size=200), contexts)
def test_any_bytes_are_refused_with_our_error(sealed: bytes, context: str) -> None:
    with pytest.raises((SealBroken, KeyMissing)):
        Vault([FIRST]).open(sealed, context)


def test_a_key_id_cannot_be_swapped() -> None:
    vault = Vault([FIRST, SECOND])
    one, two = vault.seal(b"secret", "ep_1"), Vault([SECOND]).seal(b"secret", "ep_1")
    with pytest.raises(SealBroken):
        vault.open(two[:9] + one[9:], "ep_1")


def test_a_nonce_is_never_used_again() -> None:
    vault = Vault([FIRST])
    assert len({vault.seal(b"secret", "ep_1") for _ in range(100)}) == 100


def test_rotation() -> None:
    before, during, after = Vault([FIRST]), Vault([SECOND, FIRST]), Vault([SECOND])
    old = before.seal(b"secret", "ep_1")
    assert not before.needs_reseal(old)
    assert during.needs_reseal(old)
    new = during.seal(during.open(old, "ep_1"), "ep_1")
    assert not during.needs_reseal(new)
    assert not after.needs_reseal(new)
    assert after.open(new, "ep_1") == b"secret"
    with pytest.raises(KeyMissing, match="TENTERHOOK_SECRET") as caught:
        after.open(old, "ep_1")
    assert isinstance(caught.value, TenterhookError)
    assert (caught.value.code, caught.value.status) == ("key_missing", 500)


@given(st.permutations([FIRST, SECOND, THIRD]))
def test_all_keys_open_in_any_order(keys: list[bytes]) -> None:
    vault = Vault(keys)
    assert [vault.open(Vault([key]).seal(key, "c"), "c") for key in keys] == keys
    assert [vault.needs_reseal(Vault([key]).seal(key, "c")) for key in keys] == [False, True, True]


def test_the_text_of_the_setting() -> None:
    sealed = Vault.from_text(TEXT).seal(b"secret", "ep_1")
    later = Vault.from_text(f" {TEXT[::-1]} , {TEXT} ")
    assert later.open(sealed, "ep_1") == b"secret"
    assert later.needs_reseal(sealed)
    assert Vault.from_text(TEXT).open(sealed, "ep_1") == b"secret"
    with pytest.raises(KeyMissing):
        Vault.from_text(TEXT[::-1]).open(sealed, "ep_1")


@pytest.mark.parametrize(
    "text", ["", "  ", ",", f"{TEXT},", f",{TEXT}", "short", f"{TEXT},short", "a" * 64, "abc" * 20, TEXT[:31]]
)
def test_weak_master_keys_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="TENTERHOOK_SECRET") as caught:
        Vault.from_text(text)
    assert not text.strip(" ,") or text not in caught.value.detail


@pytest.mark.parametrize("keys", [[], [b""], [FIRST, FIRST[:31]], [FIRST + b"x"]])
def test_wrong_keys_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(ConfigurationError):
        Vault(keys)


def test_the_stored_form_stays_readable() -> None:
    """Databases hold this form: version 1, key id, nonce, ciphertext and tag. Made with `cryptography` alone."""
    key = bytes(range(32))
    head = b"\x01" + hmac.digest(key, b"tenterhook vault key id", "sha256")[:8] + bytes(12)
    expected = head + AESGCM(key).encrypt(bytes(12), b"whsec_x", head + b"ep_1")
    assert Vault([key], random_bytes=bytes).seal(b"whsec_x", "ep_1") == expected


def test_the_key_from_a_text_stays_the_same() -> None:
    """HKDF-SHA256 (RFC 5869) by hand: no salt, one block."""
    secret = hmac.digest(hmac.digest(bytes(32), TEXT.encode(), "sha256"), b"tenterhook vault 1\x01", "sha256")
    assert Vault.from_text(TEXT).open(Vault([secret]).seal(b"secret", "ep_1"), "ep_1") == b"secret"


def test_the_example_of_the_docs_runs() -> None:
    text = (Path(__file__).parent.parent / "docs" / "secrets.md").read_text(encoding="utf-8")
    exec(compile(text.split("```python")[1].partition("```")[0], "docs/secrets.md", "exec"), {"__name__": "example"})
