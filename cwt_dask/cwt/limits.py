"""The largest values of settings: numbers, so that the command line can check and show them without NumPy."""

# The iteration at which a pixel joined the support is kept in two bytes.
MOST_ITERATIONS = 2**16 - 1
