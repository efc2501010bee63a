"""Pictures that models make: planned, sampled, and kept in parts as they are made."""
