"""Telling others how a run stands: a ping, a signed webhook, a file for Prometheus. Totals only, never an id.

Nothing here raises, and nothing here changes how a run ends: what can't be told is said in one sentence.
"""
