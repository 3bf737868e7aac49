"""A run carried out: created or resumed, in blocks of iterations, with what is reused and repaired.

It orders what `tiles` and `merge` do, and knows where tasks run only as an executor.
"""
