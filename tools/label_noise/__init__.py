# SPDX-License-Identifier: Apache-2.0
"""Labels that networks which did not see the image contradict with confidence."""
