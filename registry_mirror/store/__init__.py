"""Stores blobs under their MD5. Callers import the modules one by one: readers need only `layout` and `deliver`."""
