"""Faces of other toolkits over manyhands: their examples run with only the import line changed."""
