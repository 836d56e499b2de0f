"""The figures, one function each, by theme."""
