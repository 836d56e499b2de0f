"""Removes what nothing refers to any more, following a plan that can be printed first."""
