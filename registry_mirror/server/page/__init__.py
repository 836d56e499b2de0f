"""The status page: its query, the facts it shows, their wording, and the HTML document."""
