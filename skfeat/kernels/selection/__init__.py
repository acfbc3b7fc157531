"""The k largest of one row, and of many rows side by side."""
