# The service on Debian 12 with its own Python. Build: docker build --tag mai-sessions .
# A builder without a registry takes a base of its own: --build-arg BASE=…
ARG BASE=docker.io/library/debian:12-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m venv /opt/mai-sessions && /opt/mai-sessions/bin/pip install --no-cache-dir '/src[tokens]' \
    && /opt/mai-sessions/bin/pip uninstall --yes pip setuptools

FROM ${BASE}
# psql and pg_dump are for `mai-sessions psql` and `backup`, curl for the health check.
RUN apt-get update && apt-get install --yes --no-install-recommends curl postgresql-client python3 \
    && rm -rf /var/lib/apt/lists/* && useradd --system --user-group --no-create-home mai-sessions
COPY --from=build /opt/mai-sessions /opt/mai-sessions
ENV PATH=/opt/mai-sessions/bin:$PATH MAI_SESSIONS_BIND=0.0.0.0:8000
USER mai-sessions
WORKDIR /
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["curl", "--fail", "--silent", "http://127.0.0.1:8000/health/ready"]
CMD ["mai-sessions", "serve"]
