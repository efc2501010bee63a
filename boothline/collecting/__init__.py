"""Looks after what is stored: hashes all of it (verify), and frees what nothing needs (gc)."""

from boothline.collecting.garbage import Garbage, Retention, collect
from boothline.collecting.verification import Damage, Verification, verify

__all__ = ["Damage", "Garbage", "Retention", "Verification", "collect", "verify"]
