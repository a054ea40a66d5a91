# An image that holds one static binary and nothing else.
#
#   docker build -f scratch.Dockerfile -t snoop .                      from source
#   docker buildx build --platform linux/amd64,linux/arm64 -f …        for both architectures
#   docker build -f scratch.Dockerfile --target prebuilt -t snoop .    of target/ARCH/snoop (make static)

FROM scratch AS labelled
LABEL org.opencontainers.image.title="snoop" \
      org.opencontainers.image.description="Reports which files the containers of a pod use" \
      org.opencontainers.image.version="0.1.0"
ENTRYPOINT ["/snoop"]

# Comes before the stage that builds, because Docker without BuildKit cannot read that one's first line.
# The architecture of the machine that `make static` was run for: BINARY names another one.
FROM labelled AS prebuilt
ARG BINARY=target/x86_64/snoop
COPY ${BINARY} /snoop

# Builds on the machine's own architecture for the target's. This needs BuildKit (docker buildx) or buildah.
FROM --platform=$BUILDPLATFORM rust:1-bookworm AS build
ARG TARGETARCH
RUN apt-get update && apt-get install -y --no-install-recommends clang libbpf-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN case "$TARGETARCH" in \
        amd64 | "") arch=x86_64 ;; \
        arm64) arch=aarch64 ;; \
        *) echo "no build for $TARGETARCH" >&2; exit 1 ;; \
    esac && scripts/static "$arch" && mkdir /out && cp "target/$arch/snoop" /out/snoop

FROM labelled
COPY --from=build /out/snoop /snoop
