#!/bin/bash
python -m torch.distributed.run --nnodes=$SLURM_JOB_NUM_NODES --node_rank=$SLURM_NODEID --nproc_per_node=1 --master_addr=$MASTER_ADDR --master_port=$MASTER_PORT train.py
