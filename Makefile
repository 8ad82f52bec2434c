# make up [EXTRAS=deep] · make test · make check · make bench [NAME=…] · make test-faults
# One install step per environment; a stamp says that it is done for these pins.

PYTHON ?= python3.11
EXTRAS ?=
ARGS ?=
VENV := .venv/bin
UV := $(VENV)/uv pip install -q -c constraints.txt
space := $(subst ,, )
KERNEL_EXTRAS := notebooks

.PHONY: up install test test-faults check format bench clean

up: install
	@exec $(VENV)/cuaderno up $(ARGS)

install: .venv/platform.stamp .venv-kernel/kernel.stamp node_modules/.package-lock.json

.venv/bin/uv: constraints.txt
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install -q -c constraints.txt uv
	@touch $@

.venv/platform.stamp: .venv/bin/uv constraints.txt pyproject.toml kernels/pyproject.toml
	$(UV) -p .venv -e kernels -e '.[dev]'
	@rm -rf .venv/share/jupyter/kernels/python3
	@touch $@

.venv-kernel/bin/python: | .venv/bin/uv
	$(PYTHON) -m venv .venv-kernel

# torch comes by pip, never by uv: pip honours find-links and the pin of one exact build.
.venv-kernel/kernel.stamp: .venv-kernel/bin/python .venv/bin/uv constraints.txt kernels/pyproject.toml .venv-kernel/extras-$(subst $(space),-,$(or $(EXTRAS),none)).stamp
	$(UV) -p .venv-kernel -e 'kernels[notebooks]'
	@touch $@

.venv-kernel/extras-%.stamp: .venv-kernel/bin/python
	$(if $(filter deep,$(EXTRAS)),.venv-kernel/bin/python -m pip install -q -c constraints.txt torch)
	@touch $@

node_modules/.package-lock.json: .venv/platform.stamp package.json package-lock.json
	PATH="$(CURDIR)/$(VENV):$$PATH" npm ci --silent
	@touch $@

test: install
	@test -n "$$(command -v chromium)" || echo "No chromium found: the browser tests will be skipped."
	$(VENV)/pytest $(ARGS) -m 'not faults'

# Repetitions that are too long for every run: the same kinds of test as above, many more times.
test-faults: install
	$(VENV)/pytest $(ARGS) -m faults

check: install
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy

format: install
	$(VENV)/ruff format .
	$(VENV)/ruff check --fix .

bench: install
	$(VENV)/python -m benchmarks $(NAME) $(ARGS)

clean:
	rm -rf .venv .venv-kernel node_modules
