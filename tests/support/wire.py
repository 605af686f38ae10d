"""A connection's transport without a network."""

import os
from functools import cache


class Wire:
    """A transport that swallows what is written; ``quiet`` is a socket on which nothing ever comes."""

    def __init__(self, quiet=None):
        self.quiet = quiet or self
        self.closing = False

    def get_extra_info(self, name):
        return self.quiet if name == "socket" else None

    @staticmethod
    @cache
    def fileno():
        return os.pipe()[0]  # nothing ever comes

    def set_write_buffer_limits(self, high):
        pass

    def is_closing(self):
        return self.closing

    def write(self, data):
        pass

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def abort(self):
        self.closing = True
