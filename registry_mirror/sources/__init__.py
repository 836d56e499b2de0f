"""Where a sync reads from. `source.py` has the protocol; `api/` is the remote models API."""
