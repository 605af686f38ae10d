"""A shop that knows of no erasure, and writes a customer's profile again."""

import http.client
import json
from urllib.parse import quote, urlsplit


def write_profile(base_url, customer, attributes, key="sandbox-key"):
    """Update one profile at the API, as an integration of the shop does; one that is missing is made."""
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=10)
    headers = {"Authorization": f"ApiKey-v1 {key}", "Content-Type": "application/json"}
    path = f"/v2/customer_profiles/{quote(customer, safe='')}"
    connection.request("PUT", path, json.dumps({"attributes": attributes}), headers)
    status = connection.getresponse().status
    connection.close()
    if status not in {200, 201}:
        raise AssertionError(f"the update was answered with {status}")
