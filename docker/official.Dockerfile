# Adds clawkeeper to the official OpenClaw image. OpenClaw itself is not touched; what is set anew is how it is run:
# clawkeeper as the entry point and the health check, port 3000 on every address instead of 18789, the state in /data,
# the cache in /tmp, and root as the user who starts it, who runs the gateway as `node`.
#   docker build -f docker/official.Dockerfile --build-arg OPENCLAW_IMAGE=… -t openclaw .
ARG OPENCLAW_IMAGE=ghcr.io/openclaw/openclaw:2026.9.6
ARG RUST_IMAGE=docker.io/library/rust:1-slim-trixie

FROM ${RUST_IMAGE} AS clawkeeper
WORKDIR /src
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock build.rs ./
COPY benches benches
COPY tests/tools tests/tools
COPY src src
# One cache serves every architecture that is built here: each has a folder of its own in it.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bin clawkeeper --target-dir "target/$(uname -m)" \
    && install -m 755 target/"$(uname -m)"/*/release/clawkeeper /clawkeeper

FROM ${OPENCLAW_IMAGE}
COPY --from=clawkeeper /clawkeeper /usr/local/bin/clawkeeper
# Posts alerts where a CLAWKEEPER_ALERT_… says where to; otherwise it never runs.
COPY --chmod=644 docker/post-alert.mjs /usr/local/lib/clawkeeper/
# Root, to own the volume; clawkeeper runs the gateway as the user node, as the official image does.
# hadolint ignore=DL3002
USER 0:0
RUN install -d -o node -g node -m 700 /data
# /tmp, because ~/.cache cannot be made on a read-only root, and the gateway does not start without it.
# The port: what `openclaw …` in a console calls; a gateway's own --port counts more than this.
ENV OPENCLAW_STATE_DIR=/data \
    OPENCLAW_GATEWAY_PORT=3000 \
    XDG_CACHE_HOME=/tmp \
    CLAWKEEPER_HEALTH_LISTEN=[::]:9180
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 CMD ["clawkeeper", "health"]
ENTRYPOINT ["clawkeeper", "run", "--"]
CMD ["node", "dist/index.js", "gateway", "--allow-unconfigured", "--port", "3000", "--bind", "lan"]
