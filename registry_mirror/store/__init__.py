"""Blobs under their MD5. The modules are imported one by one: readers need `layout` and `deliver` only."""
