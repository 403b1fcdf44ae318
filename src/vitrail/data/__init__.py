"""Files become cases: reading, auditing, splitting and loading pictures."""
