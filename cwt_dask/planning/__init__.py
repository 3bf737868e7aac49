"""A plan made of plain integers: tiles, margin, memory, time, disk; the job of a tile; `run.toml`.

It knows settings and the survey's statistics; it runs nothing.
"""
