"""Import and export of conversations; `reader.py` reads what other products write."""
