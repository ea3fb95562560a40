.DEFAULT_GOAL := help
.PHONY: help install run

# Installed again whenever what it depends on changes.
.venv/.installed: setup.cfg pyproject.toml
	python3 -m venv .venv
	.venv/bin/pip install --quiet --editable '.[embedded,test,lint]'
	touch $@

help:  ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/.installed  ## Make .venv and install everything into it

run: install  ## Serve the API on 127.0.0.1:8000 over a private PostgreSQL; Ctrl-C stops both
	.venv/bin/mai-sessions serve
