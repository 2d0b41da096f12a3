# JupyterLab on the lessons; your copies of them are kept in the volume:
#   docker build --tag covlab .
#   docker run --rm --publish 127.0.0.1:8888:8888 --volume covlab-work:/covlab/work covlab
# On Linux, pip downloads the CUDA build of PyTorch, three gigabytes. For the CPU build, add to `docker build`:
#   --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /covlab
COPY . .
ARG PIP_EXTRA_INDEX_URL
RUN make .venv/installed
ENV PATH="/covlab/.venv/bin:$PATH"
EXPOSE 8888
CMD ["covlab", "course", "lab", "--no-browser", "--ip", "0.0.0.0"]
