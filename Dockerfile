# The server of docs/server.md for CPUs: `docker build -t srsdk .`
# The Python is that of constraints.txt. Add the digest of your registry to pin the base to the byte.
ARG PYTHON=python:3.11.13-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY .ci/build.py .ci/srsdk.cdx.json .ci/
COPY srsdk srsdk
RUN python -m venv /srv/srsdk \
    && /srv/srsdk/bin/pip install --no-cache-dir -c constraints.txt ".[http]" \
    && /srv/srsdk/bin/pip uninstall -y pip setuptools

FROM ${PYTHON}
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin srsdk
COPY --from=build /srv/srsdk /srv/srsdk
# With a read-only root, /tmp is a tmpfs: what the first start remembers is lost with the container
ENV PATH=/srv/srsdk/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    SRSDK_CACHE=/tmp/srsdk
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=12)"]
ENTRYPOINT ["srsdk", "serve", "--host", "0.0.0.0"]
