# The course without a GPU, in one image of about 2 GB:
#     docker build -t rlhf_lite .
#     docker run -p 8888:8888 -v "$PWD/my_work:/course/my_work" rlhf_lite     then open the address it prints
# --build-arg PIP_INDEX_URL=... and RLHF_LITE_TORCH_INDEX=... name mirrors.
FROM python:3.12-slim
ARG PIP_INDEX_URL=https://pypi.org/simple
ARG RLHF_LITE_TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN useradd --create-home student && mkdir /course && chown student /course
WORKDIR /course
USER student
# The environment first: it changes less often than the course.
COPY --chown=student setup_course.py pyproject.toml constraints.txt ./
COPY --chown=student installer installer
RUN python setup_course.py setup --torch cpu && rm -rf ~/.cache/pip
COPY --chown=student . .
EXPOSE 8888
CMD ["python", "setup_course.py", "lab", "--no-browser", "--ip=0.0.0.0"]
