"""One cog a feature."""
