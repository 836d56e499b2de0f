"""Upkeep of a root: the stored bytes hashed anew, and its surroundings probed."""
