"""fastconv's tests. Read reference.py (what each operation means) and shapes.py (named cases) first."""
