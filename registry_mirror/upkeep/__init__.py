"""Upkeep of a root: `gc` removes what is no longer wanted, `verify` hashes the blobs, `doctor` probes everything."""
