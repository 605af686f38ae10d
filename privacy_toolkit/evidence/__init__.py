"""The pack around a report, and everything that proves it to people who trust neither the operator nor this tool."""
