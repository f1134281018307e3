# The image of deployer: `make package`, then `docker build --tag deployer .`, or podman. The base is any Debian 12.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
COPY dist/*.whl /tmp/
RUN python3 -m venv /opt/deployer && /opt/deployer/bin/pip install --no-cache-dir --disable-pip-version-check /tmp/*.whl

FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 git git-lfs openssh-client ca-certificates bubblewrap slirp4netns \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin deployer \
    && install --directory --owner deployer --group deployer --mode 0700 /data
COPY --from=build /opt/deployer /opt/deployer
# All that changes lies in the volume: the rest may be read-only, with a /tmp in memory.
ENV PATH=/opt/deployer/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    DEPLOYER_DATA_DIR=/data DEPLOYER_BIND=0.0.0.0:8000 LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
USER deployer
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=8)"]
ENTRYPOINT ["deployer"]
CMD ["up"]
