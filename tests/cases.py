"""How many of many cases are run: CI takes some of each kind, EVERY=1 all of them, as before a release."""

import os

EVERY = os.environ.get("EVERY") == "1"
