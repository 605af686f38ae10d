import copy
import json
import pickle
from dataclasses import asdict

import msgspec
import pytest

from privacy_toolkit.app.service import PlanToApply
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.talonone.addresses import Credentials, Signer
from privacy_toolkit.talonone.client import Client
from privacy_toolkit.talonone.operations import OPERATIONS

HEX = "fefecafedeadbeef"
SIGNER = Signer("1", HEX)
ERASE, READ, V2 = (
    OPERATIONS[name] for name in ("delete_customer_data", "get_customer_inventory", "update_customer_profile_v2")
)
SIGNED_EMPTY = [(b"Content-Signature", b"signer=1; signature=0ab22833fdd54e7d6f6a95dffd158d9e")]
KEYED = [(b"Authorization", b"ApiKey-v1 abc")]


@pytest.mark.parametrize("key", ["abc", Secret("abc", "from file")])
def test_api_key_is_sent_with_its_prefix(key):
    assert Credentials(api_key=key).headers(ERASE, None) == KEYED


def test_a_request_without_body_is_signed_over_an_empty_object():
    assert Credentials(signer=SIGNER).headers(ERASE, None) == SIGNED_EMPTY
    assert Credentials(signer=SIGNER).headers(ERASE, b"{}") == SIGNED_EMPTY


def test_with_both_only_what_can_be_signed_is():
    both = Credentials(api_key="abc", signer=SIGNER)
    assert both.headers(ERASE, None) == SIGNED_EMPTY
    assert both.headers(READ, None) == KEYED
    assert both.headers(V2, b"{}") == KEYED


@pytest.mark.parametrize("operation", [READ, V2], ids=lambda operation: operation.name)
def test_what_is_never_signed_needs_an_api_key(operation):
    with pytest.raises(UsageError, match="needs an API key"):
        Credentials(signer=SIGNER).headers(operation, None)


@pytest.mark.parametrize("key", ["", " abc", "abc\n", "a\nb", "a\x00b", "a\x7fb", "a\x85b", "abc\u2026", "\ud800"])
def test_keys_that_can_not_stand_in_a_header_are_refused(key):
    with pytest.raises(UsageError) as refused:
        Credentials(api_key=key)
    assert "abc" not in str(refused.value)


@pytest.mark.parametrize("key", ["", "xyz", "abc", HEX + "\n"])
def test_signing_keys_must_be_hexadecimal(key):
    with pytest.raises(UsageError) as refused:
        Signer("1", key)
    assert HEX not in str(refused.value)


@pytest.mark.parametrize("application_id", ["", "1; signature=x", "1\n", "ä"])
def test_the_signer_must_be_an_id(application_id):
    with pytest.raises(UsageError):
        Signer(application_id, HEX)


def test_without_any_credentials_nothing_can_be_asked():
    with pytest.raises(UsageError, match="No credentials"):
        Credentials()


def test_no_repr_shows_a_key():
    shown = repr(Credentials(api_key="abc", signer=SIGNER))
    assert "abc" not in shown
    assert HEX not in shown


@pytest.mark.parametrize("scheme", ["ApiKey-v1 ", "apikey-V1 ", "Bearer ", "Authorization: ApiKey-v1 "])
def test_a_key_that_was_pasted_with_its_header_is_refused_before_it_is_sent(scheme):
    with pytest.raises(UsageError, match="scheme of its header") as refused:
        Credentials(api_key=f"{scheme}s3cret")
    assert "s3cret" not in f"{refused.value} {refused.value.hint}"


def written(value):
    """Whatever a program may try to write a value down with: what came of it, or nothing where it is refused."""
    ways = (pickle.dumps, copy.deepcopy, asdict, msgspec.json.encode, msgspec.to_builtins, json.dumps, str, repr)
    for way in ways:
        try:
            made = way(value)
        except (TypeError, NotImplementedError, ValueError):
            continue
        yield made if isinstance(made, bytes | str) else repr(made)


@pytest.mark.parametrize(
    "holder",
    [
        Credentials(api_key="0a1b2c"),
        Credentials(Secret("0a1b2c", "test"), SIGNER),
        Credentials(None, Signer("shop", "0a1b2c")),
        Signer("shop", "0a1b2c"),
        Client("https://example.talon.one", Credentials(api_key="0a1b2c")),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_no_key_is_written_by_whatever_writes(holder):
    for made in written(holder):
        assert "0a1b2c" not in (made if isinstance(made, str) else made.decode("latin-1"))
    with pytest.raises(TypeError):
        pickle.dumps(holder)


def test_the_key_of_a_plan_is_not_pickled():
    """With it anyone can try out who is in the input."""
    for write in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            write(PlanToApply(plan=None, encoded=b"", key=b"0a1b2c"))


def test_credentials_of_one_key_are_the_same_however_it_was_given():
    given, read = Credentials(api_key="abc"), Credentials(api_key=Secret("abc", "a file"))
    assert given == read
    assert hash(given) == hash(read)
    assert given != Credentials(api_key="abd")
    assert copy.copy(given) == given
