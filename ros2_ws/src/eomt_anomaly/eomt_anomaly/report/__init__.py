# SPDX-License-Identifier: MIT
"""What a replay showed: statistics, quality against ground truth, timeline, page and video. No ROS, no torch."""
