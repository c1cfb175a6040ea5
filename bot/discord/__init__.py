"""The Discord front end: thin, one cog a feature, all truth in the studio."""
