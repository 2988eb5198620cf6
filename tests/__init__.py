"""fastconv's tests. Read first: reference.py (what operations mean), shapes.py (named cases)."""
