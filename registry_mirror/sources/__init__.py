"""The sources that a sync reads from. `source.py` has the protocol, `api/` the remote models API."""
