# A small image with the one binary, run by a user without rights.
#
#   docker build -t milvus-handoff .
#   docker run --rm -v handoff-state:/state -e AWS_REGION -e AWS_ACCESS_KEY_ID -e AWS_SECRET_ACCESS_KEY \
#     milvus-handoff export s3://handoff/acme/2026-11 --source http://milvus.acme.example:19530
#
# /state keeps the journals of imports: on a volume, an interrupted import goes on in the next container.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin milvus-handoff && mkdir /state

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/milvus-handoff /usr/local/bin/milvus-handoff
COPY --from=build --chown=nonroot:nonroot /state /state
ENV XDG_STATE_HOME=/state
VOLUME /state
USER nonroot
ENTRYPOINT ["/usr/local/bin/milvus-handoff"]
