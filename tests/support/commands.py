"""What came of a command."""

import json
from dataclasses import dataclass


@dataclass
class Done:
    """A command that ended: its exit code, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON object on stdout."""
        return json.loads(self.out)
