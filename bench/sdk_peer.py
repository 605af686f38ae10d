"""The peer: the official SDK in a thread pool, read, delete, read for each customer, keeping no journal.

``python bench/sdk_peer.py BASE_URL IDS THREADS`` takes one id a line after a header line, and prints how many
customers were erased.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import talon_one
from talon_one.exceptions import NotFoundException


def read(api: talon_one.IntegrationApi, customer: str) -> None:
    """All that the inventory shows, as the toolkit asks for it."""
    api.get_customer_inventory(
        customer, profile=True, referrals=True, coupons=True, loyalty=True, giveaways=True, achievements=True
    )


def erase(api: talon_one.IntegrationApi, customer: str) -> bool:
    """Whether the customer was there, and is gone after the deletion."""
    read(api, customer)
    api.delete_customer_data(customer)
    try:
        read(api, customer)
    except NotFoundException:
        return True
    return False


def main(base_url: str, ids: Path, threads: int) -> None:
    configuration = talon_one.Configuration(
        host=base_url, api_key={"api_key_v1": "benchmark"}, api_key_prefix={"api_key_v1": "ApiKey-v1"}
    )
    configuration.connection_pool_maxsize = threads  # one connection a thread: as fast as it can be set up
    api = talon_one.IntegrationApi(talon_one.ApiClient(configuration))
    customers = ids.read_text("utf-8").splitlines()[1:]
    with ThreadPoolExecutor(threads) as pool:
        print(sum(pool.map(lambda customer: erase(api, customer), customers)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
