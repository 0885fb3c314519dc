# SPDX-License-Identifier: MIT
"""The engine beside its peers on the same weights and image: `python -m eomt_anomaly.runtime.bench`."""
