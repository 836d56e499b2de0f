"""Removing what nothing refers to any more, by a plan that can be printed first."""
