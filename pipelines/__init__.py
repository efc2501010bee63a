"""How steps are chained and where they run; the command line."""
