# Hearken. `make help` lists what there is.

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=

BUILD_PACKAGES = libasound2-dev pkg-config
DEB_PACKAGES = dpkg-dev
TEST_PACKAGES = $(BUILD_PACKAGES) $(DEB_PACKAGES) chromium chromium-driver curl ffmpeg iproute2 libasound2-plugins \
	libfaketime libsox-fmt-base mosquitto mosquitto-clients openssl procps pulseaudio pulseaudio-utils python3 \
	python3-aiosmtpd sox systemd systemd-container tzdata util-linux

BINARY = target/release/hearken
INSTALLED = $(DESTDIR)$(PREFIX)
# systemd is asked only where it runs, and not for an installation into a package's folder.
SYSTEMCTL = test -n "$(DESTDIR)" -o ! -d /run/systemd/system || systemctl

.DEFAULT_GOAL := help
.PHONY: help run build test test-long audit dist deb bench lint install uninstall clean build-packages \
	deb-packages test-packages

help: ## List these targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: build ## Build, and listen: to the microphone, or without one to a recording.
	$(BINARY) run --demo-if-no-microphone --config config.toml

build: build-packages ## Build the program, target/release/hearken.
	cargo build --release --locked

test: test-packages ## Run all tests, with real audio, brokers and systemd.
	@scripts/test.sh

test-long: build test-packages ## A day of sound and over a million odd inputs; takes hours.
	@scripts/test-long.sh

audit: ## Check licences, advisories and duplicate versions (installs cargo-deny).
	@command -v cargo-deny > /dev/null || cargo install --locked cargo-deny
	cargo deny check

dist: build-packages ## Build the program to hand out, with the list of its crates in it (installs cargo-auditable).
	@command -v cargo-auditable > /dev/null || cargo install --locked cargo-auditable
	cargo auditable build --profile dist --locked
	@echo "target/dist/hearken; \`cargo audit bin\`, \`trivy\` or \`syft\` read what it is made of"

deb: dist deb-packages ## Make a Debian package of what `make dist` builds (installs cargo-deb).
	@command -v cargo-deb > /dev/null || cargo install --locked cargo-deb
	scripts/package-deb.sh target/dist/hearken target/deb
	cargo deb --no-build --locked

bench: build-packages ## Measure.
	cargo bench --locked

lint: build-packages ## Check formatting and clippy's lints.
	cargo fmt --all --check
	cargo clippy --release --all-targets --locked -- -D warnings

install: ## Install what `make build` built, as a systemd service (as root).
	@test -x $(BINARY) || { echo "Nothing to install yet: run \`make build\` first." >&2; exit 1; }
	install -D -m 755 $(BINARY) $(INSTALLED)/bin/hearken
	install -d $(INSTALLED)/lib/systemd/system $(INSTALLED)/share/man/man1 \
		$(INSTALLED)/share/bash-completion/completions $(INSTALLED)/share/zsh/site-functions \
		$(INSTALLED)/share/fish/vendor_completions.d
	sed 's|/usr/local/bin|$(PREFIX)/bin|' systemd/hearken.service \
		> $(INSTALLED)/lib/systemd/system/hearken.service
	$(BINARY) man > $(INSTALLED)/share/man/man1/hearken.1
	$(BINARY) completions bash > $(INSTALLED)/share/bash-completion/completions/hearken
	$(BINARY) completions zsh > $(INSTALLED)/share/zsh/site-functions/_hearken
	$(BINARY) completions fish > $(INSTALLED)/share/fish/vendor_completions.d/hearken.fish
	install -D -m 644 config.toml $(INSTALLED)/share/doc/hearken/config.toml
	@if test -e $(DESTDIR)$(SYSCONFDIR)/hearken/config.toml; then \
		echo "Kept $(DESTDIR)$(SYSCONFDIR)/hearken/config.toml as it is."; \
	else \
		install -D -m 644 config.toml $(DESTDIR)$(SYSCONFDIR)/hearken/config.toml; \
	fi
	@$(SYSTEMCTL) daemon-reload
	@$(SYSTEMCTL) try-restart hearken
	@echo "Installed. Start it now and at every boot: systemctl enable --now hearken"

uninstall: ## Remove it again, but not your configuration (as root).
	-@$(SYSTEMCTL) --quiet disable --now hearken 2>/dev/null
	rm -f $(INSTALLED)/bin/hearken $(INSTALLED)/lib/systemd/system/hearken.service \
		$(INSTALLED)/share/man/man1/hearken.1 \
		$(INSTALLED)/share/bash-completion/completions/hearken \
		$(INSTALLED)/share/zsh/site-functions/_hearken \
		$(INSTALLED)/share/fish/vendor_completions.d/hearken.fish
	rm -rf $(INSTALLED)/share/doc/hearken
	@$(SYSTEMCTL) daemon-reload
	@echo "Removed. Left: $(SYSCONFDIR)/hearken (configuration), /var/lib/private/hearken (data)"

clean: ## Remove what was built.
	cargo clean

build-packages:
	@scripts/install-packages.sh $(BUILD_PACKAGES)

deb-packages:
	@scripts/install-packages.sh $(DEB_PACKAGES)

test-packages:
	@scripts/install-packages.sh $(TEST_PACKAGES)
