//! The Debian package: what is in it, and its life in a container with real systemd and dpkg; and
//! what is in the crate. `HEARKEN_DEB=FILE` tests a package that was made elsewhere, as by `make deb`.

#[allow(dead_code, reason = "made for tests/systemd.rs, which uses all of it")]
#[path = "common/systemd.rs"]
mod rig;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use rig::{Container, Setup, require_programs};
use tempfile::TempDir;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
const CONFIG: &str = "/etc/hearken/config.toml";
/// Somebody's own configuration. No card is in the container: that is a state, not an error.
const EDITED: &str = "node = \"cellar\"\n";

/// The package, and later versions of it.
struct Packages {
    dir: TempDir,
    first: PathBuf,
}

static PACKAGES: LazyLock<Packages> = LazyLock::new(|| {
    require_programs(&[("dpkg-deb", "dpkg"), ("dpkg-shlibdeps", "dpkg-dev")]);
    let dir = tempfile::Builder::new().prefix("hearken-package-").tempdir().unwrap();
    let first = dir.path().join("first.deb");
    match std::env::var_os("HEARKEN_DEB") {
        Some(deb) => {
            fs::copy(&deb, &first).unwrap_or_else(|e| panic!("{}: {e}", deb.display()));
        }
        None => {
            let script = Path::new(REPOSITORY).join("scripts/package-deb.sh");
            let stage = dir.path().join("stage");
            let mut build = Command::new(script);
            build.arg(env!("CARGO_BIN_EXE_hearken")).arg(&stage).arg(&first);
            must(build.env("DEB_COMPRESSION", "none"));
        }
    }
    Packages { dir, first }
});

impl Packages {
    /// The same package under another version, with a line more in its sample configuration.
    fn later(&self, version: &str, sample: &str) -> PathBuf {
        let tree = self.dir.path().join(version);
        must(Command::new("dpkg-deb").arg("-R").arg(&self.first).arg(&tree));
        let control = fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
        let lines = control.lines().map(|line| match line.starts_with("Version: ") {
            true => format!("Version: {version}\n"),
            false => format!("{line}\n"),
        });
        fs::write(tree.join("DEBIAN/control"), lines.collect::<String>()).unwrap();
        let config = tree.join("etc/hearken/config.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text + sample).unwrap();
        let deb = self.dir.path().join(format!("{version}.deb"));
        let mut build = Command::new("dpkg-deb");
        must(build.args(["--root-owner-group", "-Znone", "-b"]).arg(&tree).arg(&deb));
        deb
    }

    fn field(&self, name: &str) -> String {
        must(Command::new("dpkg-deb").arg("-f").arg(&self.first).arg(name)).trim().to_owned()
    }
}

/// The files beside the configuration that the documentation names, and what they may hold.
const SECRETS: [(&str, &str); 5] = [
    ("mqtt_password", "secret"),
    ("dashboard_password", HASH),
    ("smtp_password", "secret"),
    ("webhook_secret", "secret"),
    ("ntfy_token", "secret"),
];
const HASH: &str = "$argon2id$v=19$m=1024,t=2,p=1$c29tZXNhbHQgc29tZXNhbHQ$\
                    2r8S99FTpcBmSaXJyDzg1KGdLLyxggNqQH7ak8KmGBA";

/// What a program that has to succeed printed.
fn must(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{error}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// All files that a package may touch, without the package manager's and the system's own notes.
fn files(container: &Container) -> BTreeSet<String> {
    let own = [
        "/var/lib/dpkg/",
        "/var/log/",
        "/var/cache/",
        "/var/tmp/",
        "/var/lib/systemd/timers/",
        "/var/lib/logrotate/",
    ];
    let found = container.must(&["find", "/etc", "/usr", "/var"]);
    found.lines().filter(|f| !own.iter().any(|o| f.starts_with(o))).map(str::to_owned).collect()
}

/// Checks that `left`, and nothing else, has come since `before`, and that nothing has gone.
fn left_behind(container: &Container, before: &BTreeSet<String>, left: &[&str]) {
    let after = files(container);
    assert_eq!(after.difference(before).collect::<Vec<_>>(), left);
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), Vec::<&String>::new());
}

fn installed_version(container: &Container) -> String {
    container.must(&["dpkg-query", "-W", "-f=${db:Status-Status} ${Version}", "hearken"])
}

fn is_running(container: &Container) {
    assert_eq!(container.property("ActiveState"), "active", "{}", container.journal());
    assert_eq!(container.property("UnitFileState"), "enabled");
    let program = format!("/proc/{}/exe", container.property("MainPID"));
    assert_eq!(container.must(&["readlink", &program]).trim(), "/usr/bin/hearken");
}

fn exists(container: &Container, path: &str) -> bool {
    container.run(&["test", "-e", path]).status.success()
}

/// A container in which nothing of Hearken is, and packages may start what they like.
fn bare(packages: &[(&PathBuf, &str)]) -> Container {
    let setup = packages.iter().fold(Setup::empty(), |setup, (deb, name)| {
        setup.copy(deb, &format!("root/{name}.deb"), 0o644)
    });
    let container = setup.boot();
    container.must(&["dpkg", "--purge", "hearken"]);
    // Images for containers forbid starts, and leave manual pages out. The index of all manual pages
    // takes its time and proves nothing.
    container.must(&["rm", "-rf", "/usr/sbin/policy-rc.d", "/etc/dpkg/dpkg.cfg.d"]);
    container.must(&["rm", "-f", "/var/lib/man-db/auto-update"]);
    container
}

#[test]
fn is_installed_upgraded_removed_and_purged() {
    let second = PACKAGES.later("99.0-1", "");
    let third = PACKAGES.later("99.1-1", "\n# A new key.\n");
    let container = bare(&[(&PACKAGES.first, "first"), (&second, "second"), (&third, "third")]);
    let before = files(&container);

    // Debian's way: what is installed is started, now and at every boot.
    container.must(&["dpkg", "--install", "/root/first.deb"]);
    is_running(&container);
    // Debian 12's systemd calls /usr/lib by its older name.
    let unit = container.property("FragmentPath");
    assert_eq!(unit.trim_start_matches("/usr"), "/lib/systemd/system/hearken.service");
    container.wait_for_line(&["microphone"]);
    assert_eq!(container.must(&["dpkg", "--verify", "hearken"]), "");
    assert!(exists(&container, "/var/lib/private/hearken/hearken.db"));

    // An upgrade restarts it, and asks nothing: the sample has not changed.
    container.write(CONFIG, EDITED);
    for (file, text) in SECRETS {
        container.write(&format!("/etc/hearken/{file}"), &format!("{text}\n"));
    }
    let pid = container.property("MainPID");
    container.must(&["dpkg", "--install", "/root/second.deb"]);
    is_running(&container);
    assert_ne!(container.property("MainPID"), pid, "not restarted");
    assert_eq!(installed_version(&container), "installed 99.0-1");
    assert_eq!(container.must(&["cat", CONFIG]), EDITED);

    // With a new sample dpkg asks; the careful answer keeps what is there, and the sample beside it.
    container.must(&["dpkg", "--force-confdef", "--force-confold", "-i", "/root/third.deb"]);
    is_running(&container);
    assert_eq!(container.must(&["cat", CONFIG]), EDITED);
    assert!(container.must(&["cat", "/etc/hearken/config.toml.dpkg-dist"]).contains("A new key"));

    // What somebody has switched off stays off.
    container.must(&["systemctl", "disable", "--now", "hearken"]);
    container.must(&["dpkg", "--install", "/root/third.deb"]);
    assert_eq!(container.property("ActiveState"), "inactive");
    assert_eq!(container.property("UnitFileState"), "disabled");
    container.must(&["systemctl", "enable", "--now", "hearken"]);
    is_running(&container);

    // Removed: program and unit are gone, configuration and state stay, and serve the next one.
    container.must(&["dpkg", "--remove", "hearken"]);
    assert_eq!(container.property("ActiveState"), "inactive");
    assert_eq!(container.property("LoadState"), "not-found");
    assert!(!exists(&container, "/usr/bin/hearken"));
    assert!(exists(&container, "/var/lib/private/hearken/hearken.db"));
    assert_eq!(container.must(&["cat", CONFIG]), EDITED);
    container.must(&["dpkg", "--install", "/root/third.deb"]);
    is_running(&container);
    assert_eq!(container.must(&["cat", CONFIG]), EDITED);

    // Purged: only what somebody else has put there is left.
    container.write("/etc/hearken/ca.pem", "a certificate\n");
    container.must(&["dpkg", "--purge", "hearken"]);
    left_behind(&container, &before, &["/etc/hearken", "/etc/hearken/ca.pem"]);
    container.must(&["rm", "-r", "/etc/hearken"]);

    // And otherwise nothing at all.
    container.must(&["dpkg", "--install", "/root/first.deb"]);
    for (file, text) in SECRETS {
        container.write(&format!("/etc/hearken/{file}"), &format!("{text}\n"));
    }
    container.must(&["dpkg", "--purge", "hearken"]);
    left_behind(&container, &before, &[]);
}

#[test]
fn the_package_holds_all_that_it_should() {
    let listing = must(Command::new("dpkg-deb").arg("-c").arg(&PACKAGES.first));
    let mode_of = |path: &str| {
        let line = listing.lines().find(|line| line.ends_with(&format!(" .{path}")));
        line.unwrap_or_else(|| panic!("no {path} in\n{listing}"))[..10].to_owned()
    };
    assert_eq!(mode_of("/usr/bin/hearken"), "-rwxr-xr-x");
    for path in [
        CONFIG,
        "/usr/lib/systemd/system/hearken.service",
        "/usr/share/man/man1/hearken.1.gz",
        "/usr/share/bash-completion/completions/hearken",
        "/usr/share/zsh/vendor-completions/_hearken",
        "/usr/share/fish/vendor_completions.d/hearken.fish",
        "/usr/share/doc/hearken/copyright",
        "/usr/share/doc/hearken/changelog.gz",
        "/usr/share/doc/hearken/changelog.Debian.gz",
        "/usr/share/doc/hearken/crates.txt.gz",
        "/usr/share/doc/hearken/config.toml",
        "/usr/share/doc/hearken/docs/install.md",
        "/usr/share/doc/hearken/models/sound.md",
    ] {
        assert_eq!(mode_of(path), "-rw-r--r--", "{path}");
    }
    assert!(!listing.contains("/usr/local"), "{listing}");
    // Cargo-deb writes the owner's number only.
    let is_roots = |line: &str| line.contains(" root/root ") || line.contains(" 0/0 ");
    assert!(listing.lines().all(is_roots), "{listing}");

    let control = PACKAGES.dir.path().join("control");
    must(Command::new("dpkg-deb").arg("-e").arg(&PACKAGES.first).arg(&control));
    assert_eq!(fs::read_to_string(control.join("conffiles")).unwrap().trim(), CONFIG);
    assert_eq!(PACKAGES.field("Version"), concat!(env!("CARGO_PKG_VERSION"), "-1"));
    let depends = PACKAGES.field("Depends");
    for library in ["libasound2", "libc6"] {
        assert!(depends.contains(library), "{depends}");
    }
}

/// The files that `include_bytes!` and `include_str!` in `text` name, as they are written.
fn included(text: &str) -> Vec<&str> {
    let calls = text.split("include_").skip(1);
    let starts = calls.filter(|c| c.starts_with("bytes!") || c.starts_with("str!"));
    starts.filter_map(|call| call.split('"').nth(1)).collect()
}

#[test]
fn the_crate_holds_all_that_it_is_built_from() {
    let mut list = Command::new(env!("CARGO"));
    let list = list.args(["package", "--list", "--allow-dirty", "--offline"]);
    let list = must(list.current_dir(REPOSITORY));
    let packed: BTreeSet<&str> = list.lines().collect();
    let mut asked = 0;
    for source in packed.iter().filter(|f| f.starts_with("src/") && f.ends_with(".rs")) {
        let path = Path::new(REPOSITORY).join(source);
        let text = fs::read_to_string(&path).unwrap();
        // Tests stay in the repository, and so do the files they compare with.
        let text = text.split("mod tests {").next().unwrap();
        if source.ends_with("tests.rs") {
            continue;
        }
        for name in included(text) {
            let file = path.parent().unwrap().join(name).canonicalize().unwrap();
            let file = file.strip_prefix(Path::new(REPOSITORY).canonicalize().unwrap()).unwrap();
            // Of a folder whose files are named by a macro, all of it.
            let is_there = |packed: &&str| Path::new(packed).starts_with(file);
            assert!(packed.iter().any(is_there), "{source} needs {}", file.display());
            asked += 1;
        }
    }
    assert!(asked >= 4, "only {asked} files are included: is this test blind?");
    // crates.io takes 10 MiB, compressed. Models, which hardly shrink, are nearly all of it.
    let size = |file: &&str| fs::metadata(Path::new(REPOSITORY).join(file)).map_or(0, |m| m.len());
    let models: u64 = packed.iter().filter(|f| f.ends_with(".onnx")).map(size).sum();
    assert!(models < 9_700_000, "models of {models} bytes do not fit a crate");
}
