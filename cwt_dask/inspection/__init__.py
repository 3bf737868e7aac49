"""A finished run looked at again: verified, recomputed, compared with another, matched with a catalogue.

It reads runs as `results` opens them, and changes none but for the associations of a match.
"""
