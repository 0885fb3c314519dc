# SPDX-License-Identifier: MIT
"""For every test here: an example of Hypothesis may take as long as a busy machine needs."""

import os

from hypothesis import settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes (`make test`), each with a core
    os.environ.setdefault("OMP_NUM_THREADS", "1")
