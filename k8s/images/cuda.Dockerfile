# The server for NVIDIA GPUs, with vLLM. Models come from the hub or a volume.
#
#     docker build -f k8s/images/cuda.Dockerfile -t registry.example.com/llm-serve-cuda:0.1.0-ray2.60.0 .
#
# The wheels bring CUDA; the driver is that of the node, through NVIDIA's container toolkit.

FROM python:3.11.13-slim-bookworm AS build
# As in pyproject.toml and in rayVersion of k8s/base/rayservice.yaml; a test compares them.
ARG RAY_VERSION=2.60.0
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/llm-serve
ENV PATH=/opt/llm-serve/bin:$PATH
WORKDIR /src
# What we depend on, as pyproject.toml pins it: a layer that a change of ours leaves alone.
COPY pyproject.toml ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *p['optional-dependencies']['vllm'], sep='\n')" > requirements.txt \
    && pip install --requirement requirements.txt \
    && python -c "import ray, torch; assert ray.__version__ == '$RAY_VERSION'; assert torch.version.cuda"
COPY LICENSE README.md ./
COPY llm_serve llm_serve
COPY deployments deployments
RUN pip install --no-deps . \
    && llm-serve --help > /dev/null

FROM python:3.11.13-slim-bookworm
# KubeRay's probes are wget in bash; Triton compiles its launchers with a C compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash gcc libc6-dev wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --no-create-home --home-dir /tmp --shell /bin/bash serve
COPY --from=build /opt/llm-serve /opt/llm-serve
# The root file system is read-only in the cluster, so no bytecode is written there.
ENV PATH=/opt/llm-serve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HOME=/tmp
WORKDIR /tmp
USER 1000:1000
CMD ["llm-serve", "--help"]
