# SPDX-License-Identifier: Apache-2.0
"""Polygons and masks of annotation tools as label maps: COCO, LabelMe and CVAT."""
