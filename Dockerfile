# CUDA image: the PyTorch wheels carry CUDA and cuDNN, the host gives only its driver
# (NVIDIA Container Toolkit). No compiled extension is built.
#
#   docker build -t hiseg .
#   docker run --gpus all --ipc=host -v /data/cityscapes:/data/cityscapes -v "$PWD/logs:/logs" \
#       -e HISEG_CITYSCAPES_DIR=/data/cityscapes hiseg \
#       python -m runx.runx scripts/train_cityscapes.yml -i
#
# --ipc=host or --shm-size=8g: batches come from the loader processes through /dev/shm, which has
# 64 MB in a container otherwise. Too little is said before the first step; --num_workers 0 needs none.
FROM python:3.12-slim-bookworm

ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

# gcc: torch.compile (--compile) builds its kernels at run time.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /hiseg
COPY pyproject.toml README.md LICENSE NOTICE ./
RUN pip install ".[dev]"
COPY . .
RUN python -m scripts.setup_local --logroot /logs --assets /assets
CMD ["python", "train.py", "--help"]
