# One build for all five services, each of which is a target: `docker build --target gateway_api .`, for
# example. docker-compose.yml builds all of them.
#
# The classic builder suffices (docker-compose 1.29 uses it if BuildKit is missing). It has no cache mounts,
# so layers serve as the cache. The stages in order: skeleton → dependencies → build → runtime → one target
# per service. All targets share the first four, so five images cost one compilation.

# The manifests with empty sources. A layer that copies from this stage depends on the result of the stage
# only, not on the sources. So the dependencies below are compiled again only when a manifest or Cargo.lock
# changes, and the Dockerfile needs no list of crates.
FROM debian:bookworm-slim AS skeleton
WORKDIR /build
COPY . .
# Keeps the files that cargo needs to load the workspace: the manifests and the root file of each target.
RUN find . -type f \
        ! -name Cargo.toml ! -path ./Cargo.lock ! -path './.cargo/*' \
        ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -path '*/src/bin/*.rs' ! -name build.rs \
        ! -regex '.*/\(tests\|benches\|examples\)/\([^/]*\|[^/]*/main\)\.rs' \
        -delete \
    && find . -type d -empty -delete \
    && find . -name lib.rs -exec truncate --size 0 {} + \
    && echo 'fn main() {}' | tee $(find . -name '*.rs' ! -name lib.rs) > /dev/null

# The dependencies without the crates of the workspace.
FROM rust:1-slim-bookworm AS dependencies
WORKDIR /build
ENV PACKAGES="-p gateway_api -p order_service -p inventory_service -p account_service -p msg_service"
COPY --from=skeleton /build .
RUN cargo build --release --locked $PACKAGES

FROM dependencies AS build
COPY . .
# Cargo compares modification times, and a source file may be older than the empty file that was compiled
# above. So all sources are touched. The same layer removes the build directory, so that a changed source adds
# only the binaries.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
    && cargo build --release --locked $PACKAGES \
    && mkdir /binaries \
    && mv target/release/gateway_api target/release/order_service target/release/inventory_service \
          target/release/account_service target/release/msg_service /binaries/ \
    && rm -rf target

FROM debian:bookworm-slim AS runtime
# The directory of the volume with the secret of the gateway and order_service. Docker gives a new volume the
# directory's owner.
RUN install --directory --owner 10001 --group 10001 --mode 700 /var/lib/orders
# A numeric user, so that an orchestrator can verify that it is not root. The binaries need no home directory
# and write no file.
USER 10001:10001

FROM runtime AS gateway_api
# The certificate authorities for the OpenID provider, unless OIDC_CA names others.
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
