"""Hashing the stored files again: what to look at, what was found, and what becomes of bad ones."""
