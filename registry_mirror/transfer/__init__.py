"""Moves one body from storage into a sink: hashes it on the way, and checks it before accepting it."""
