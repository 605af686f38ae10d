"""The service layer: what the command line and the Python API both do, without a screen."""
