# One build for all five services: `docker build --target gateway_api .` and the like; docker-compose.yml does it.
#
# The classic builder suffices (docker-compose 1.29 uses it where BuildKit is missing), hence no cache mounts: what must
# not be done twice is a layer of its own. The stages in order: skeleton → dependencies → build → runtime → one target
# per service. All targets share the first four, so five images cost one compilation.

# The manifests with empty sources. Copied from here, a layer depends on what this stage leaves behind, not on
# what went into it: the dependencies below are compiled anew only when a manifest or Cargo.lock changes. No list of
# crates to keep up to date.
FROM debian:bookworm-slim AS skeleton
WORKDIR /build
COPY . .
# Kept: what cargo needs to load the workspace. These are the manifests and the file each target starts from.
RUN find . -type f \
        ! -name Cargo.toml ! -path ./Cargo.lock ! -path './.cargo/*' \
        ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -path '*/src/bin/*.rs' ! -name build.rs \
        ! -regex '.*/\(tests\|benches\|examples\)/\([^/]*\|[^/]*/main\)\.rs' \
        -delete \
    && find . -type d -empty -delete \
    && find . -name lib.rs -exec truncate --size 0 {} + \
    && echo 'fn main() {}' | tee $(find . -name '*.rs' ! -name lib.rs) > /dev/null

# The dependencies, and nothing of our own.
FROM rust:1-slim-bookworm AS dependencies
WORKDIR /build
ENV PACKAGES="-p gateway_api -p order_service -p inventory_service -p account_service -p msg_service"
COPY --from=skeleton /build .
RUN cargo build --release --locked $PACKAGES

FROM dependencies AS build
COPY . .
# Cargo compares times, and a source file may well be older than the empty one that was compiled above: touch them.
# What is left of the build goes away in the same layer, so that a changed source costs the size of the binaries only.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
    && cargo build --release --locked $PACKAGES \
    && mkdir /binaries \
    && mv target/release/gateway_api target/release/order_service target/release/inventory_service \
          target/release/account_service target/release/msg_service /binaries/ \
    && rm -rf target

FROM debian:bookworm-slim AS runtime
# For the volume with the secret between the gateway and order_service: Docker gives a new volume the owner that the
# directory has.
RUN install --directory --owner 10001 --group 10001 --mode 700 /var/lib/orders
# By number, so that an orchestrator can see that it is not root. The binaries need no home and write no
# file.
USER 10001:10001

FROM runtime AS gateway_api
# The authorities that may have signed an OpenID provider's certificate, unless OIDC_CA names others.
COPY --from=dependencies /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /binaries/gateway_api /usr/local/bin/
EXPOSE 5000
ENTRYPOINT ["gateway_api"]

FROM runtime AS order_service
COPY --from=build /binaries/order_service /usr/local/bin/
EXPOSE 5000
ENTRYPOINT ["order_service"]

FROM runtime AS inventory_service
COPY --from=build /binaries/inventory_service /usr/local/bin/
ENTRYPOINT ["inventory_service"]

FROM runtime AS account_service
COPY --from=build /binaries/account_service /usr/local/bin/
ENTRYPOINT ["account_service"]

FROM runtime AS msg_service
COPY --from=build /binaries/msg_service /usr/local/bin/
ENTRYPOINT ["msg_service"]
