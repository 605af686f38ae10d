"""Pieces of what was destroyed, looked for in files."""

import random

import pytest

from privacy_toolkit.app.runs import Traces


@pytest.mark.parametrize("piece", [b"\x92\x02\xa5abcde", b"0123456789abcdef"])
@pytest.mark.parametrize("place", [0, 1, 7, 8, 4_194_296, 4_194_300, 4_194_303, 4_194_304])
def test_a_piece_is_found_wherever_it_stands(piece, place):
    data = bytearray(random.Random(place).randbytes(4_194_400))
    data[place : place + len(piece)] = piece
    data = [bytes(data[:4_194_304]), bytes(data[4_194_304:])]
    others = [random.Random(k).randbytes(16) for k in range(500)]
    assert Traces([piece, *others]).are_in(data)
    assert not Traces(others).are_in(data)


def test_half_of_a_long_piece_is_none():
    data = [b"01234567________89abcdef"]
    assert not Traces([b"0123456789abcdef"]).are_in(data)


def test_nothing_is_found_of_nothing():
    data = [b""]
    assert len(Traces([])) == 0
    assert not Traces([]).are_in(data)
