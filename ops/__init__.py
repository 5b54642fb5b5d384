"""Day to day operation: `python -m ops ...`."""
