"""The status page: what is asked for, what is found, how it reads, and the document itself."""
