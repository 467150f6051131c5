# One image for all of a cluster's containers: what runs in one is the command of docker-compose.yml. `--target wasm` has the
# embedded guests only; `--target qemu`, which stands last as some builders make all that stands before, runs real machines too.
ARG BASE=node:24-bookworm-slim

FROM ${BASE} AS build
WORKDIR /opt/stellwerk
COPY package.json package-lock.json ./
COPY packages/agent/package.json packages/agent/
COPY packages/block/package.json packages/block/
COPY packages/cli/package.json packages/cli/
COPY packages/coordinator/package.json packages/coordinator/
COPY packages/csv/package.json packages/csv/
COPY packages/protocol/package.json packages/protocol/
COPY packages/runtime/package.json packages/runtime/
COPY packages/storage/package.json packages/storage/
RUN npm ci --omit=dev --no-audit --no-fund --ignore-scripts
COPY packages packages
COPY docker docker
COPY chaos chaos
# Tests are nothing that a container runs. The compile cache is filled once, here: the image is read only later.
RUN find packages -name '*.test.ts' -delete \
 && for role in coordinator agent storage; do node packages/cli/src/main.ts $role serve --help; done >/dev/null \
 && node packages/cli/src/main.ts container --help >/dev/null

FROM ${BASE} AS wasm
RUN useradd --system --uid 10001 --home-dir /var/lib/stellwerk --shell /usr/sbin/nologin stellwerk \
 && install -d -o stellwerk -g stellwerk -m 0700 /var/lib/stellwerk /run/stellwerk
COPY --from=build /opt/stellwerk /opt/stellwerk
COPY docker/stellwerk /usr/local/bin/stellwerk
USER stellwerk
WORKDIR /var/lib/stellwerk
ENTRYPOINT ["stellwerk", "container"]

# The self-checking guest of real machines is made here, from the distribution's kernel: containers have no way to its packages.
FROM wasm AS qemu
USER root
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends qemu-system-x86 qemu-utils ovmf \
 && stellwerk image build tiny --out /opt/stellwerk/tiny.img && chmod 0644 /opt/stellwerk/tiny.img \
 && rm -rf /var/lib/apt/lists/*
USER stellwerk
