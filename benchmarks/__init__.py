"""Measures of speed and behaviour beside the standard library and floors written by hand; see README.md."""
