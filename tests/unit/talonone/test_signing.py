"""Test vectors for the vendor's own sample key, computed with independent implementations."""

import pytest

from privacy_toolkit.talonone.addresses import content_signature

KEY = bytes.fromhex("fefecafedeadbeef")


@pytest.mark.parametrize(
    ("body", "digest"),
    [
        (b"{}", "0ab22833fdd54e7d6f6a95dffd158d9e"),
        (b"", "0dbc664752c37541281e3eef8eee0d2d"),
        (b'{"integrationIDs": ["c1", "\\u00fc"]}', "3887d5488a77a303b272facb0a2441fd"),
    ],
)
def test_signature_covers_the_exact_bytes(body, digest):
    assert content_signature("1", KEY, body) == f"signer=1; signature={digest}"
