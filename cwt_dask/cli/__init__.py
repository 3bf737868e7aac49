"""What a user types: commands, their options, and the entry point that hears signals first.

It may know everything below; nothing below knows it. It prints, sets exit statuses, and computes nothing.
"""
