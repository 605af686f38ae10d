"""The peer: the same jobs with the official SDK in a thread pool, keeping no journal and making no report.

``python bench/sdk_peer.py JOB BASE_URL FILE THREADS OUT`` takes one row a line after a header line, and prints how many
were done. ``OUT`` is the folder for what ``export`` reads.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import talon_one
from talon_one.exceptions import NotFoundException

Row = list[str]


def read(api: talon_one.IntegrationApi, customer: str) -> talon_one.CustomerInventory:
    """All that the inventory shows, as the toolkit asks for it."""
    return api.get_customer_inventory(
        customer, profile=True, referrals=True, coupons=True, loyalty=True, giveaways=True, achievements=True
    )


def erase(api: talon_one.IntegrationApi, row: Row, _: Path) -> bool:
    """Read, delete, read: whether the customer was there, and is gone after the deletion."""
    read(api, row[0])
    api.delete_customer_data(row[0])
    try:
        read(api, row[0])
    except NotFoundException:
        return True
    return False


def reserve(api: talon_one.IntegrationApi, row: Row, _: Path) -> bool:
    """Read, reserve, read: whether the customer has the coupon afterwards, and had it not before."""
    coupon, customer = row
    before = api.get_reserved_customers(coupon).data
    api.create_coupon_reservation(coupon, talon_one.CouponReservations(integration_ids=[customer]))
    after = api.get_reserved_customers(coupon).data
    return customer in {one.integration_id for one in after} - {one.integration_id for one in before}


def export(api: talon_one.IntegrationApi, row: Row, out: Path) -> bool:
    """Read, and put what was read into a file of its own as JSON."""
    return (out / f"{row[0]}.json").write_text(read(api, row[0]).model_dump_json(by_alias=True), "utf-8") > 0


def events(api: talon_one.IntegrationApi, row: Row, _: Path) -> bool:
    """Track one event: whether the answer is about its customer."""
    customer, kind, number = row
    event = talon_one.IntegrationEventV2Request(profile_id=customer, type=kind, attributes={"n": int(number)})
    return api.track_event_v2(event, silent="no").customer_profile.integration_id == customer


JOBS: dict[str, Callable[[talon_one.IntegrationApi, Row, Path], bool]] = {
    "erase": erase,
    "reserve": reserve,
    "export": export,
    "events": events,
}


def main(job: str, base_url: str, file: Path, threads: int, out: Path) -> None:
    configuration = talon_one.Configuration(
        host=base_url, api_key={"api_key_v1": "benchmark"}, api_key_prefix={"api_key_v1": "ApiKey-v1"}
    )
    configuration.connection_pool_maxsize = threads  # one connection a thread: as fast as it can be set up
    api = talon_one.IntegrationApi(talon_one.ApiClient(configuration))
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    with ThreadPoolExecutor(threads) as pool:
        print(sum(pool.map(lambda row: JOBS[job](api, row, out), rows)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
