"""The status page's template and its style, which stands inside the page."""
