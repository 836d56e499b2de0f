"""The index: the published file that readers open. Writers replace it whole. It needs the standard library only."""
