FROM rust:1.95-bookworm AS build
# zlib-ng, under Pingora, is built with cmake.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
RUN cargo build --locked --release --bin sluice

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin sluice
COPY --from=build /build/target/release/sluice /usr/local/bin/sluice
USER 10001:10001
# Clients, and operators: /livez, /readyz, /metrics.
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
# No HEALTHCHECK: it would need an HTTP client in the image. Let the
# orchestrator ask /livez and /readyz on port 8001 instead.
ENTRYPOINT ["sluice"]
CMD ["serve"]
