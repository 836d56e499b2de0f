"""Moving one body from storage into a sink: hashed while it moves, checked before it counts."""
