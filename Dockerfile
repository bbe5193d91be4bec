# weftd with its proxy, and weftctl, in an image of Debian 12.
#   docker build -t weft:0.1.0 .
# The suite performs the same steps without a registry: tests/helm/test_image.py reads this file.

FROM debian:bookworm AS build
WORKDIR /src
# Alone, so that a change of the sources does not install the packages again.
COPY scripts/setup scripts/setup
RUN scripts/setup
COPY . .
RUN scripts/build release weftd weftctl weft-proxy weft-sockets
# 158 MB become 5: the rest is debug information. The BPF programs inside are data and stay as they are.
RUN strip build/bin/weftd build/bin/weftctl build/bin/weft-proxy build/bin/weft-sockets

FROM debian:bookworm-slim
# What ldd says of them, package by package; the test compares.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      libabsl20220623 \
      libbpf1 \
      libfyaml0 \
      libnghttp2-14 \
      libprometheus-cpp-core1.0 \
      libprotobuf-lite32 \
      libre2-9 \
      libseccomp2 \
      libsimdjson14 \
      libssl3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/build/bin/weftd /src/build/bin/weftctl /src/build/bin/weft-proxy \
     /src/build/bin/weft-sockets /usr/local/bin/
# Root, because eBPF needs it; which capabilities, and what for, is in helm/weft.
ENTRYPOINT ["/usr/local/bin/weftd"]
