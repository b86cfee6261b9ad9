# Serves models over HTTP; see docs/deploy.md.
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    SHAKESPEARE_TUI_RUNS=/runs \
    SHAKESPEARE_TUI_EXPERIMENTS=/experiments \
    SHAKESPEARE_TUI_CACHE=/cache \
    NUMBA_CACHE_DIR=/cache/numba

WORKDIR /src
COPY . .
# Without a version: what is installed is this very folder.
# hadolint ignore=DL3013
RUN pip install ".[serve,onnx,gguf]" \
    && useradd --create-home --uid 1000 lab \
    && mkdir -p /runs /experiments /cache \
    && chown lab /runs /experiments /cache

# By its number, which tells a host that it is not root.
USER 1000
WORKDIR /home/lab
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["shakespeare-tui"]
CMD ["--help"]
