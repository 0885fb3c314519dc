# SPDX-License-Identifier: MIT
"""The modes of `bag_benchmark`: how load is made, how a rate is searched for, what is measured."""
