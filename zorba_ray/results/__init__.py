"""What a run leaves behind: records, summary, the live display and the report."""
