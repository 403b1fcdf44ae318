"""Which configuration is best, chosen on validation cases alone."""
