"""The sync: from the upstream into the root. The modules are imported one by one by those who need them."""
