"""Measures of painted pictures."""
