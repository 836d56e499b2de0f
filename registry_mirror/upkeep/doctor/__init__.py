"""Probing a root and its surroundings, a small function for each thing."""
