from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from myctobot.lib.crypto import CannotUnseal, Sealer, derive_key, derive_token, digest, keyed_digest, new_token

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
VALUES = {"repo_token": "canary-ü", "jira_token": {"secret": "jira"}}


def test_what_is_sealed_is_unsealed_for_the_same_row() -> None:
    sealer = Sealer([OLD])
    assert sealer.unseal(sealer.seal(VALUES, bound_to="job:1"), bound_to="job:1") == VALUES


def test_sealed_text_shows_nothing_and_differs_each_time() -> None:
    sealer = Sealer([OLD])
    one, two = (sealer.seal(VALUES, bound_to="job:1") for _ in range(2))
    assert one != two
    assert "canary" not in one


def test_a_sealed_text_moved_to_another_row_stays_shut() -> None:
    sealer = Sealer([OLD])
    with pytest.raises(CannotUnseal, match="another row"):
        sealer.unseal(sealer.seal(VALUES, bound_to="job:1"), bound_to="job:2")


def test_a_derived_key_opens_only_what_was_sealed_with_it() -> None:
    derived = derive_key(OLD, "callbacks")
    assert derived == derive_key(OLD, "callbacks")
    assert len({derived, OLD, derive_key(OLD, "other"), derive_key(NEW, "callbacks")}) == 4
    sealed = Sealer([OLD]).seal(VALUES, bound_to="x")
    with pytest.raises(CannotUnseal):
        Sealer([derived]).unseal(sealed, bound_to="x")


def test_no_key_is_derived_from_a_malformed_one() -> None:
    with pytest.raises(ValueError, match="Fernet key"):
        derive_key("no-key", "callbacks")


def test_a_key_that_is_gone() -> None:
    with pytest.raises(CannotUnseal, match="SECRETS_KEYS"):
        Sealer([NEW]).unseal(Sealer([OLD]).seal(VALUES, bound_to="x"), bound_to="x")


@pytest.mark.parametrize("damage", [lambda text: text[:-2], lambda text: "A" + text[1:], lambda _: "", lambda _: "no"])
def test_a_changed_text(damage: object) -> None:
    sealer = Sealer([OLD])
    sealed = sealer.seal(VALUES, bound_to="x")
    with pytest.raises(CannotUnseal):
        sealer.unseal(damage(sealed), bound_to="x")  # type: ignore[operator]  # a table of functions


def test_keys_rotate_without_a_moment_in_which_nothing_opens() -> None:
    sealed = Sealer([OLD]).seal(VALUES, bound_to="x")
    both = Sealer([NEW, OLD])
    assert both.unseal(sealed, bound_to="x") == VALUES
    rotated = both.rotate(sealed)
    assert Sealer([NEW]).unseal(rotated, bound_to="x") == VALUES
    with pytest.raises(CannotUnseal):
        Sealer([OLD]).unseal(rotated, bound_to="x")


def test_what_no_key_opens_cannot_be_rotated() -> None:
    with pytest.raises(CannotUnseal):
        Sealer([NEW]).rotate(Sealer([OLD]).seal(VALUES, bound_to="x"))


@pytest.mark.parametrize("keys", [[], ["short"], [OLD, "x" * 44], [""]])
def test_keys_that_are_none_are_refused_by_the_settings_name(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="SECRETS_KEYS"):
        Sealer(keys)


def test_tokens_are_random_and_carry_their_prefix() -> None:
    one, two = new_token("mctb"), new_token("mctb")
    assert one != two
    assert one.startswith("mctb_")
    assert len(one) >= 48


def test_a_derived_token_is_the_same_for_the_same_parts_alone() -> None:
    assert derive_token("mctg", "k", "a", "b") == derive_token("mctg", "k", "a", "b")
    others = {
        derive_token("mctg", "k", "a", "b"),
        derive_token("mctg", "K", "a", "b"),
        derive_token("mctg", "k", "ab"),
        derive_token("mctg", "k", "b", "a"),
    }
    assert len(others) == 4


def test_digests() -> None:
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert keyed_digest("k", "abc") != keyed_digest("K", "abc") != digest("abc")
