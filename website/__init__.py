"""The site of docs/: its hooks and the pages that are written while it is built."""
