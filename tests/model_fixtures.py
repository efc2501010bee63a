"""Tiny random models (written by their owner)."""
