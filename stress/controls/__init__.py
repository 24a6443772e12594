"""The negative control: other ways to share a directory, played and judged as the library is."""
