# SPDX-License-Identifier: Apache-2.0
"""Programs for people: they look at data, networks and runs."""
