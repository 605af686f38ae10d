"""Foreign bytes: whatever a file, a pack, an answer or a list may hold, it is read or refused, and nothing else.

Each example is a seed, from which so many inputs are made as ``BATCH`` says: a valid one with some of its bytes
changed, cut, doubled, or mixed with what parsers stumble over. ``make fuzz`` goes through a million of them.
"""

import random
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_toolkit.core.durable import TEXT_LIMIT
from tests.support.fuzzing import REFUSALS, SEEDS, TOKENS, mutated, valid

EXAMPLES, BATCH = 6, 20
#: What one input may take, in bytes. The largest valid one has some 20 KB; a file is read with room for the largest.
MOST_MEMORY = TEXT_LIMIT + 8_000_000
#: Parsers that always say what they would say of any other input: their valid one needs a signature or a digest.
NEVER_VALID = {"plan", "signature"}

parsers = pytest.mark.parametrize("parse", SEEDS, ids=lambda parse: parse.__name__)


@parsers
def test_what_inputs_are_made_of_is_valid(parse):
    for seed in valid(parse):
        with suppress(*(REFUSALS if parse.__name__ in NEVER_VALID else ())):
            parse(seed)


@parsers
@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_foreign_bytes_are_read_or_refused(parse, seed):
    draw = random.Random(seed)
    for _ in range(BATCH):
        with suppress(*REFUSALS):
            parse(mutated(draw, valid(parse)))


@parsers
def test_no_input_takes_much_memory(parse):
    draw = random.Random(1)
    inputs = [mutated(draw, valid(parse)) for _ in range(10)] + [token * 50 for token in TOKENS if len(token) < 4000]
    tracemalloc.start()
    try:
        for data in inputs:
            with suppress(*REFUSALS):
                parse(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MOST_MEMORY
