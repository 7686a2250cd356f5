# urgentmos as a service. Two variants:
#   docker build -t urgentmos .                               on the CPU, without torch
#   docker build -t urgentmos:cuda --build-arg VARIANT=cuda . networks on a GPU; run with --gpus all
# packaging/check.sh runs the steps below without Docker, so keep each RUN a script of sh that knows only /src and /opt.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG VARIANT=cpu
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python3 -m venv /opt/urgentmos
# torch from PyPI brings the CUDA libraries; the driver comes from the host
RUN case "$VARIANT" in \
        cpu) extras=av,parquet,report,serve,urls ;; \
        cuda) extras=av,models,parquet,report,serve,urls ;; \
        *) echo "VARIANT is cpu or cuda, not $VARIANT" >&2; exit 1 ;; \
    esac; \
    /opt/urgentmos/bin/python -m pip install --no-cache-dir "/src[$extras]" speechmos
RUN /opt/urgentmos/bin/urgentmos --version

FROM python:${PYTHON}-slim
COPY --from=build /opt/urgentmos /opt/urgentmos
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
