"""Probes a root and its surroundings, with a small function for each question."""
