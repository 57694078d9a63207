"""The grades of extraction behind one face."""
