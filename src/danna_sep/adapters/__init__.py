"""Other people's separators behind our protocol; each module needs its own optional package, imported when it loads.

Each has a `load(..., device="cpu")` that gives a `danna_sep.Separator`; `danna_sep.plugins` knows them by name.
"""
