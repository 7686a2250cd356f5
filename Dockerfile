# urgentmos as a service. Two variants:
#   docker build -t urgentmos .                               on the CPU, without torch
#   docker build -t urgentmos:cuda --build-arg VARIANT=cuda . networks on a GPU; run with --gpus all
# Every package is pinned by the SHA-256 of its file (packaging/lock.py). The base image is not: its digest could not be looked
# up where this file was written. Pin it where you build: --build-arg BASE=python:3.12-slim@sha256:DIGEST, with the digest that
# `docker buildx imagetools inspect python:3.12-slim` shows.
# packaging/check.sh runs the steps below without Docker, so keep each RUN a script of sh that knows only /src and /opt.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ARG VARIANT=cpu
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY packaging/requirements-cpu.txt packaging/requirements-cuda.txt ./packaging/
COPY src ./src
RUN python3 -m venv /opt/urgentmos
# torch from PyPI brings the CUDA libraries; the driver comes from the host. setuptools builds our own wheel.
RUN case "$VARIANT" in \
        cpu) extras=av,parquet,report,serve,urls ;; \
        cuda) extras=av,models,parquet,report,serve,urls ;; \
        *) echo "VARIANT is cpu or cuda, not $VARIANT" >&2; exit 1 ;; \
    esac; \
    /opt/urgentmos/bin/python -m pip install --no-cache-dir --require-hashes -r "/src/packaging/requirements-$VARIANT.txt"; \
    /opt/urgentmos/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation "/src[$extras]"; \
    /opt/urgentmos/bin/python -m pip check
RUN /opt/urgentmos/bin/urgentmos --version

FROM ${BASE}
# urgentmos itself is MIT; PyAV's wheel brings FFmpeg with x264 and x265: see NOTICE
LABEL org.opencontainers.image.title="urgentmos" \
    org.opencontainers.image.licenses="MIT AND GPL-2.0-or-later AND LGPL-3.0-or-later AND LGPL-2.1-or-later AND BSD-3-Clause AND Apache-2.0"
COPY --from=build /opt/urgentmos /opt/urgentmos
COPY LICENSE NOTICE /opt/urgentmos/
RUN useradd --system --create-home --uid 10001 urgentmos
USER urgentmos
WORKDIR /home/urgentmos
ENV PATH=/opt/urgentmos/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["urgentmos"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
