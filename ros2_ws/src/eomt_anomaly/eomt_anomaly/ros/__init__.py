# SPDX-License-Identifier: MIT
"""How the detector talks: messages in, messages out. The only room that imports rclpy."""
