"""The sync copies models from the upstream into the root. Callers import the modules they need one by one."""
