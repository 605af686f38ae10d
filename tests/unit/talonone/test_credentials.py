import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.talonone.addresses import Credentials, Signer
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
