# The server for CPUs, with the small default model in it.
#
#     docker build -f k8s/images/cpu.Dockerfile -t registry.example.com/llm-serve-cpu:0.1.0-ray2.60.0 .

FROM python:3.11.13-slim-bookworm AS build
# As in pyproject.toml and in rayVersion of k8s/base/rayservice.yaml; a test compares them.
ARG RAY_VERSION=2.60.0
# The last one has PyTorch without CUDA.
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/llm-serve
ENV PATH=/opt/llm-serve/bin:$PATH
WORKDIR /src
# What we depend on, as pyproject.toml pins it: a layer that a change of ours leaves alone.
COPY pyproject.toml ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *p['optional-dependencies']['transformers'], sep='\n')" > requirements.txt \
    && pip install --requirement requirements.txt \
    && python -c "import ray, torch; assert ray.__version__ == '$RAY_VERSION'; assert not torch.version.cuda"
COPY LICENSE README.md serve_config.yaml ./
COPY llm_serve llm_serve
COPY deployments deployments
RUN pip install --no-deps . \
    && llm-serve --help > /dev/null
# Fetched and converted once, here; serving it needs no network.
RUN LLM_SERVE_CACHE=/opt/llm-serve/cache llm-serve pull HuggingFaceTB/SmolLM2-135M-Instruct --config serve_config.yaml

FROM python:3.11.13-slim-bookworm
# KubeRay's probes are wget in bash.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --no-create-home --home-dir /tmp --shell /bin/bash serve
COPY --from=build /opt/llm-serve /opt/llm-serve
# The root file system is read-only in the cluster, so nothing is compiled there.
ENV PATH=/opt/llm-serve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /tmp
USER 1000:1000
CMD ["llm-serve", "--help"]
