# SPDX-License-Identifier: Apache-2.0
"""What an evaluation leaves behind: images, a web page, results.json, submissions, labels."""
