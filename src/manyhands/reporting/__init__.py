"""What a run was: recorded while it goes, kept in journals, shown on one page or in a trace."""
