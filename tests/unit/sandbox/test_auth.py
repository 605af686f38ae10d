import pytest

from privacy_toolkit.sandbox.deployment import Authenticator
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import RefusalError
from privacy_toolkit.talonone.operations import OPERATIONS

AUTHENTICATOR = Authenticator(SandboxSettings())
KEY = {"authorization": "ApiKey-v1 sandbox-key"}
SIGNED_V1 = OPERATIONS["delete_customer_data"]
KEY_ONLY_V2 = OPERATIONS["update_customer_profile_v2"]


def refusal(operation, headers, body=b"") -> tuple[int, str] | None:
    try:
        AUTHENTICATOR.check(operation, headers, body)
    except RefusalError as error:
        return error.status, error.body["message"]
    return None


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_the_key_opens_every_operation(operation):
    assert refusal(operation, KEY) is None


@pytest.mark.parametrize("value", ["ApiKey-v1 other", "sandbox-key", "Bearer sandbox-key", "", "ApiKey-v1 schlüssel"])
def test_a_wrong_key_is_401(value):
    assert refusal(SIGNED_V1, {"authorization": value}) == (401, "Invalid API key")


def test_nothing_presented_is_401():
    assert refusal(SIGNED_V1, {}) == (401, "Unauthorized")


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        # the vectors computed with the sample key of the vendor's page
        (b"{}", "0ab22833fdd54e7d6f6a95dffd158d9e"),
        (b"", "0dbc664752c37541281e3eef8eee0d2d"),
        (b'{"integrationIDs": ["c1", "\\u00fc"]}', "3887d5488a77a303b272facb0a2441fd"),
    ],
)
@pytest.mark.parametrize("spelling", ["signer=1; signature={}", "signer=1;signature={}"])
def test_signatures_of_the_raw_body_are_accepted(body, signature, spelling):
    assert refusal(SIGNED_V1, {"content-signature": spelling.format(signature)}, body) is None


@pytest.mark.parametrize(
    "header",
    [
        "signer=2; signature=0ab22833fdd54e7d6f6a95dffd158d9e",
        "signer=1; signature=0ab22833fdd54e7d6f6a95dffd158d9f",
        "signer=1",
        "ü",
    ],
)
def test_a_wrong_signature_is_400(header):
    assert refusal(SIGNED_V1, {"content-signature": header}, b"{}") == (400, "HMAC signature mismatch.")
    assert refusal(SIGNED_V1, KEY | {"content-signature": header}, b"{}") == (400, "HMAC signature mismatch.")


def test_v2_operations_take_the_key_only():
    headers = {"content-signature": "signer=1; signature=0ab22833fdd54e7d6f6a95dffd158d9e"}
    assert refusal(KEY_ONLY_V2, headers, b"{}") == (401, "Unauthorized")
