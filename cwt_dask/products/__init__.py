"""What people take from a run: images by name, plots, cutouts, files, summaries.

It knows a run as a `MapSource`, and reads no more of the maps than is asked for.
"""
