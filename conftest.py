# SPDX-License-Identifier: MIT
"""For every test here: an example of Hypothesis may take as long as a busy machine needs."""

from hypothesis import settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
