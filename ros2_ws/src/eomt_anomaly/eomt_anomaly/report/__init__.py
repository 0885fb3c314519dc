# SPDX-License-Identifier: MIT
"""What a replay showed: statistics, quality against ground truth, page and video. No ROS, no torch."""
