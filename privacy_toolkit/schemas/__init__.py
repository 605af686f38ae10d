"""JSON Schemas (draft 2020-12) of what the toolkit writes for machines: ``report``, ``row`` and ``plan``."""
