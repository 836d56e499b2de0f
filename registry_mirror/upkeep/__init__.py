"""Upkeep of a root: what is no longer wanted removed, the stored bytes hashed anew, its surroundings probed."""
