"""Where pixels are: cores, windows, seams and rings, boxes read from arrays, width of margins.

It knows integers, and of the kernels only how far they reach.
"""
