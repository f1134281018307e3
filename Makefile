# `make help` lists what there is. Everything is kept in this folder: .venv*/, data/ (make run), .demo/ (make demo).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run demo test long faults chaos proofs services security bench pictures package install-check lint format messages
.SILENT:
# A test starts many programs, and each would compile all of the product again where nothing that is compiled is kept.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python
ONCE ?=
ONLY ?=
QUICK ?=
# Tests wait for servers more than they compute: four processes keep two cores busy.
TEST_PROCESSES ?= 4
# Debian's packages that bring the real parts of the tests.
PARTS := git openssh-server openssh-client postgresql chromium gettext sudo nginx nodejs npm haproxy socat supervisor \
	bubblewrap git-lfs caddy curl openssl
# Debian's packages that bring what is restarted in the table of proofs, and the machines that it is restarted on.
SERVICES := nginx php-fpm supervisor uwsgi uwsgi-plugin-python3 default-jdk-headless nodejs npm vim-tiny podman \
	debootstrap systemd-container

help: ## list the targets
	sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{ printf "%-13s %s\n", $$1, $$2 }'

run: .venv/.run ## run deployer for real: queue server, workers and web in one, until Ctrl-C
	exec $(PYTHON) manage.py up

demo: .venv/.run ## two real deployments on three SSH servers of its own; ONCE=1 stops after them
	DEPLOYER_DATA_DIR="$$PWD/.demo/data" exec $(PYTHON) manage.py demo $(if $(filter-out 0 no false,$(ONCE)),--once)

# A second time, on PostgreSQL, runs only what uses the database (not what the marker any_database leaves out), a case of
# each test, and no browser: it sees the pages that other tests read.
test: .venv/.dev .venv-proofs/.installed ## the checks, the tests on SQLite, then on PostgreSQL those in which it matters
	.ci/need $(PARTS)
	.ci/checks
	echo "--- tests on SQLite"
	$(PYTHON) -m pytest -q -n $(TEST_PROCESSES) --dist worksteal -m "not long"
	echo "--- tests on PostgreSQL"
	$(PYTHON) -m tests.parts.postgres $(PYTHON) -m pytest -q -n $(TEST_PROCESSES) --dist worksteal -m "not long" \
		--database-only --ignore tests/browser
	echo "All checks and tests passed."

long: .venv/.dev ## the tests that make test leaves out: of each kind it has a quicker one
	.ci/need $(PARTS)
	$(PYTHON) -m pytest -q -n $(TEST_PROCESSES) --dist worksteal -m long

faults: .venv/.dev ## everything that goes wrong, at every phase, as a table; SEED=n repeats a run
	.ci/need git openssh-server openssh-client postgresql
	$(PYTHON) -m tests.faults
	$(PYTHON) -m tests.chaos --minutes 2 --deployments 16 --servers 30

chaos: .venv/.dev ## half an hour in which all of three machines is killed at random, under 200 deployments; SEED=n repeats it
	.ci/need git openssh-server openssh-client postgresql
	$(PYTHON) -m tests.chaos

proofs: .venv/.dev .venv-proofs/.installed ## what is said of every kind of service, as a table; ONLY=text takes some rows
	.ci/need git openssh-server openssh-client $(SERVICES) || echo "The table says which rows this leaves out."
	$(PYTHON) -m tests.proofs $(if $(ONLY),--only "$(ONLY)")

services: .venv/.dev .venv-proofs/.installed ## each kind of service, and what happens to it, as a table; ONLY=text takes some rows
	.ci/need git openssh-server openssh-client $(SERVICES) || echo "The table says which rows this leaves out."
	$(PYTHON) -m tests.proofs --kinds $(if $(ONLY),--only "$(ONLY)")

security: .venv/.dev ## attacks by builds, packages, servers, strangers and users, as a table; ONLY=text takes some rows
	.ci/need git openssh-server openssh-client bubblewrap
	$(PYTHON) -m tests.security $(if $(ONLY),--only "$(ONLY)")

bench: .venv/.dev .venv-bench/.installed ## how fast it is, beside scp, rsync, Ansible and others; ONLY=transfer, restart, wide, pages, flood or year; QUICK=1
	.ci/need git openssh-server openssh-client rsync zstd postgresql chromium
	$(PYTHON) -m bench $(ONLY) $(if $(filter-out 0 no false,$(QUICK)),--quick)

pictures: .venv/.dev ## the pictures of the README, made anew of real deployments on the demo's servers
	.ci/need git openssh-client chromium
	$(PYTHON) -m tests.pictures

install-check: .venv/.dev ## docs/install.md followed word for word on a bare Debian, and the image; ONLY=paper or image
	.ci/need git openssh-client debootstrap systemd-container podman curl
	$(PYTHON) -m tests.packaging $(ONLY)

package: .venv/.dev ## the wheel and the archive of the source, in dist/
	$(PYTHON) -m build --outdir dist .

lint: .venv/.dev ## the checks alone: ruff, mypy, migrations, deployment settings, templates
	.ci/checks

format: .venv/.dev ## write the code the way the checks want it
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

messages: .venv/.dev ## gather new strings, name the untranslated: fill them in pages/locale/*/LC_MESSAGES/django.po, run it again
	.ci/need gettext
	.ci/messages

# A stamp is newer than the requirements that it stands for; a half-made environment leaves none.
.venv/.run: requirements.txt
	.ci/need python3-venv git openssh-client
	.ci/venv requirements.txt
	touch $@

.venv/.dev: requirements.txt requirements-dev.txt
	.ci/need python3-venv git openssh-client
	.ci/venv requirements-dev.txt
	touch $@

.venv-proofs/.installed: requirements-proofs.txt
	.ci/need python3-venv
	.ci/venv requirements-proofs.txt .venv-proofs
	touch $@

.venv-bench/.installed: requirements-bench.txt
	.ci/need python3-venv
	.ci/venv requirements-bench.txt .venv-bench
	touch $@
