"""Hashes the stored blobs again: which to check, what was found, and what happens to bad ones."""
