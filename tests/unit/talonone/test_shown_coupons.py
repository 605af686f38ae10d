"""What an answer says of a coupon: until when it holds, whether it is spent, who may redeem it, and who has."""

from datetime import UTC, datetime

import pytest

from privacy_toolkit.jobs.holders import (
    ShownCoupon,
    decode_coupon,
    encode_coupon,
    is_redeemed,
    shown_coupon,
)
from privacy_toolkit.talonone.models import Coupon, InventoryCoupon
from privacy_toolkit.talonone.responses import Answer, Finding, Reason

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def shown(**more):
    given = {"usage_limit": 0, "usage_counter": 0} | more
    value = Coupon(value="CODE", id=1, created="2026-01-01T00:00:00Z", campaign_id=1, **given)
    return shown_coupon(Answer(Finding.DONE, None, 201, value, named=True), NOON)


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "usable"),
        ({"usage_counter": 7}, "usable"),  # a limit of 0 is none
        ({"usage_limit": 7, "usage_counter": 6}, "usable"),
        ({"usage_limit": 7, "usage_counter": 7}, "used_up"),
        ({"usage_limit": None, "usage_counter": None}, "usable"),
        ({"expiry_date": "2026-06-01T12:00:00Z"}, "expired"),
        ({"expiry_date": "2026-06-01T14:00:00+01:00"}, "usable"),
        ({"expiry_date": "2026-06-01T12:00:00.001Z"}, "usable"),
        ({"expiry_date": "2026-06-01T11:59:00"}, "expired"),  # without an offset it is UTC
        ({"expiry_date": "soon"}, "usable"),
        ({"start_date": "2026-06-01T12:00:01Z"}, "not_started"),
        ({"start_date": "2026-06-02T00:00:00Z", "expiry_date": "2026-05-02T00:00:00Z"}, "expired"),
    ],
)
def test_the_state_of_a_coupon_follows_from_the_figures_of_the_api(more, state):
    assert shown(**more).state == state


def test_who_may_redeem_it_is_what_the_api_says_and_nothing_else():
    kinds = [shown(is_reservation_mandatory=kind).redeemable_by for kind in (True, False, None)]
    assert kinds == ["holders", "anyone", None]


def test_a_coupon_may_have_expired_since_it_was_shown():
    found = shown(expiry_date="2026-07-01T00:00:00Z")
    assert (found.state, found.state_at(NOON)) == ("usable", "usable")
    assert found.state_at(datetime(2026, 7, 2, tzinfo=UTC)) == "expired"
    assert decode_coupon(encode_coupon(found)) == found
    assert ShownCoupon().state_at(NOON) is None


@pytest.mark.parametrize(
    "answer",
    [
        Answer(Finding.UNKNOWN, Reason.READ_TIMEOUT, None),
        Answer(Finding.ABSENT, Reason.NOT_FOUND, 404),
        Answer(Finding.DONE, None, 204),
        Answer(Finding.DONE, None, 201, InventoryCoupon(value="CODE"), named=True),
    ],
)
def test_an_answer_without_the_coupon_says_nothing_of_it(answer):
    assert shown_coupon(answer, NOON) is None


@pytest.mark.parametrize(
    ("more", "redeemed"),
    [
        ({"profile_redemption_count": 0, "usage_counter": 5}, False),
        ({"profile_redemption_count": 2}, True),
        ({"usage_counter": 0}, False),
        ({"usage_counter": 1}, None),  # by somebody
        ({}, None),
        ({"state": "used"}, None),  # its limit is reached; by whom is not said
    ],
)
def test_whether_a_customer_redeemed_a_coupon_is_known_only_where_the_api_counts_it(more, redeemed):
    assert is_redeemed(InventoryCoupon(value="CODE", **more)) is redeemed
