#!/bin/sh
# ImageNet training on one or more machines, with the command line of the published program:
#
#   bash scripts/train_imagenet.sh NODES GPUS NODE_RANK --data DIR --model HRViT_b1_224 -b 32 ...
#
# The same line on every machine but for NODE_RANK (0 to NODES-1). With more than one machine
# MASTER_ADDR (or --dist-url tcp://HOST:PORT) names the first. Flags: docs/imagenet.md.
cd "$(dirname "$0")/.." && exec python -m scripts.train_imagenet "$@"
