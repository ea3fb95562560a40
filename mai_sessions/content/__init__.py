"""Pure functions on what users send."""
