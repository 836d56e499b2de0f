"""The HTTP server: the upstream's API, read-only, for its official clients. Needs the extra `serve`.

The modules are imported one by one; those that decide (addressing, query, rows, ranges, origin) need no HTTP library.
"""
