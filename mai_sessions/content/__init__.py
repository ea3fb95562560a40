"""Pure functions on the contents of messages, titles and queries."""
