"""The remote models API: the public client, and the source that a sync reads from."""
