"""Benchmarks: every figure that the docs quote, as ratios from interleaved runs on one machine."""
