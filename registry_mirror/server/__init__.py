"""The HTTP server: the upstream's API, read-only, for its official clients. Needs the extra `serve`.

Import its modules one by one. Those that decide (requests, answers, dialects, bodies, proxies) need no HTTP library.
"""
