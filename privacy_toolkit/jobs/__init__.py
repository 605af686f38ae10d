"""The jobs: what is done for one subject, and what proves it. One small declaration each."""
