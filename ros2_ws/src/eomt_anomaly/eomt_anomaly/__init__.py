# SPDX-License-Identifier: MIT
"""Open-set anomaly detection on camera topics. The rooms: `model`, `runtime`, `alerts`, `report`, `ros`."""

__version__ = "0.1.0"
