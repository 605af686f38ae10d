import json


def ask(line, method, path, body=None):
    status, _, answer = line.send(method, f"/__sandbox__/{path}", body, headers={})
    return status, json.loads(answer)


def test_state_and_log_are_shown(line):
    opened = line(seed_customers=3)
    opened.send("DELETE", "/v1/customer_data/customer-00002")
    assert ask(opened, "GET", "state")[1]["totals"]["profile"] == 2
    status, log = ask(opened, "GET", "log")
    assert status == 200
    assert [(entry["operation"], entry["value"]) for entry in log] == [("delete_customer_data", "customer-00002")]


def test_reset_and_seed(line):
    opened = line(seed_customers=3)
    opened.send("DELETE", "/v1/customer_data/customer-00002")
    assert ask(opened, "POST", "reset")[1]["totals"]["profile"] == 0
    assert ask(opened, "GET", "state")[1]["requests"] == 0
    assert ask(opened, "POST", "seed", b'{"count": 2, "ids": ["x", "y"]}')[1]["totals"]["profile"] == 2
    for content in (b'{"count": "many"}', b'{"count": 1, "ids": ["\xff"]}', b'{"x":' + b"[" * 5000):
        assert ask(opened, "POST", "seed", content)[0] == 400
