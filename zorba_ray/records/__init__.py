"""What happened, as rows: their schema, their writer and their reader."""
