"""What tests of several folders share; no test, and nothing that pytest collects, is in here."""
