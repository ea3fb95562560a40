"""Import and export of conversations; `reader.py` reads the exports of other products."""
