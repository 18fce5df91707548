# SPDX-License-Identifier: Apache-2.0
"""What happens to an image and its label between the file and the network."""
