"""How much of what takes long is run: a short version each time, all of it with ``LONG=true`` (``make chaos``)."""

import os

#: Whether all of it is run.
IS_LONG = os.environ.get("LONG") == "true"
