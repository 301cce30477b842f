# One image for a pod, a task and `docker run --gpus all`: set-up done, nothing fetched at the start
# but the base model. Built in a clone with its submodule:
#
#   docker build -t bespoke \
#     --build-arg BESPOKE_COMMIT="$(git rev-parse HEAD)" \
#     --build-arg TRAINER_COMMIT="$(git -C vendor/sd-scripts rev-parse HEAD)" .
#
# BASE is any Debian with Python 3.10 to 3.12 and pip or venv; torch brings CUDA's own libraries.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /opt/bespoke

# tini is process 1: it hands TERM on and buries orphans, which bash does not.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*

# The larger set first: it changes with the trainer alone. The marks that setup.sh leaves are those
# that start_training.sh looks for. TRAINER_SET=no leaves 8 GB out, for an image that can rehearse.
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
COPY setup.sh ./
COPY locks/trainer.txt locks/
ARG TRAINER_SET=yes
RUN --mount=type=cache,target=/root/.cache \
    . ./setup.sh; \
    if [ "$TRAINER_SET" = yes ]; then install trainer; fi; \
    rm -rf .uv
COPY locks/orchestrator.txt locks/
RUN --mount=type=cache,target=/root/.cache \
    . ./setup.sh; install orchestrator; rm -rf .uv

COPY vendor/sd-scripts vendor/sd-scripts
RUN [ -f vendor/sd-scripts/train_network.py ] || { \
      echo "vendor/sd-scripts is empty: git submodule update --init, then build again" >&2; \
      exit 1; }
COPY . .
ARG BESPOKE_COMMIT=unknown
ARG TRAINER_COMMIT=unknown
# /workspace is open to any --user; where nothing is mounted there, results go with the container.
RUN .venv/bin/python deploy/image.py "$BESPOKE_COMMIT" "$TRAINER_COMMIT" \
    && .venv/bin/python -m compileall -q bespoke vendor/sd-scripts \
    && install -d -m 1777 /workspace

LABEL org.opencontainers.image.title="bespoke" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${BESPOKE_COMMIT}" \
      bespoke.trainer.revision="${TRAINER_COMMIT}"

# HOME and USER are set for a --user that no passwd file knows; all that is written goes to the
# workspace or to /tmp. A RunPod base would set HF_HUB_ENABLE_HF_TRANSFER to 1, which fails here.
ENV BESPOKE_WORKSPACE=/workspace \
    HOME=/tmp \
    USER=bespoke \
    HF_HUB_ENABLE_HF_TRANSFER=0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1

EXPOSE 6006 8888
ENTRYPOINT ["tini", "-g", "--", "bash", "/opt/bespoke/start_training.sh"]
