//! The configuration as a whole: the sample, the documentation, the layers, every kind of mistake,
//! and properties of whatever is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::alert::settings::{Action, Trigger};
use crate::capture::settings::{DeviceSelect, Pace, PcmFormat, PcmSample};
use crate::decide::settings::RuleOverride;
use crate::publish::settings::{Broker, ProtocolVersion, RemoteBroker};

const DOCUMENT: &str = include_str!("../../docs/configuration.md");

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Environment {
        variables: variables.collect(),
        host_name: Some("attic".to_owned()),
        state_folder: "/state".into(),
        ..Environment::default()
    }
}

fn parse(text: &str) -> Result<Settings, ConfigError> {
    from_bytes(text.as_bytes(), None, &environment(&[]), &Overrides::default())
}

fn set(pairs: &[&str]) -> Overrides {
    Overrides { set: pairs.iter().map(|pair| pair.to_string()).collect(), ..Overrides::default() }
}

/// The problems of `result`, one string each.
fn problems(result: Result<Settings, ConfigError>) -> Vec<String> {
    match result {
        Ok(settings) => panic!("accepted: {settings:?}"),
        Err(ConfigError::Invalid { problems, more: 0, .. }) => {
            problems.iter().map(Problem::to_string).collect()
        }
        Err(error) => panic!("{error}"),
    }
}

fn problem(text: &str) -> String {
    let all = problems(parse(text));
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap()
}

fn remote(settings: &Settings) -> &RemoteBroker {
    match &settings.publish.broker {
        Broker::Remote(remote) => remote,
        other => panic!("{other:?}"),
    }
}

// ---- the sample and the documentation -----------------------------------------------------------

#[test]
fn the_sample_says_what_no_file_says() {
    let none = load(None, &environment(&[]), &Overrides::default()).unwrap();
    assert_eq!(parse(default_text()).unwrap(), none);
    assert_eq!(&*none.node, "attic");
    assert_eq!(none.model, None);
    assert_eq!(none.hop_s, 0.5);
    assert_eq!(none.publish.broker, Broker::Embedded { port: 1883 });
    assert_eq!(none.sources.len(), 1);
    assert_eq!(none.sources[0].capture.origin, Origin::Device(DeviceSelect::Default));
}

/// The sample's commented-out lines `#key = value`, with the table they are in.
fn sample_keys() -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = String::new();
    for line in default_text().lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(header) = line.strip_prefix("[[source]]") {
            assert!(header.is_empty());
            table = "source[].".to_owned();
        } else if line == "[[alert]]" {
            table = "alert[].".to_owned();
        } else if let Some(header) = line.strip_prefix('[') {
            table =
                format!("{}.", header.trim_end_matches(']')).replace("class.siren", "class.NAME");
        } else if let Some((key, value)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            keys.entry(format!("{table}{key}")).or_default().push(value.to_owned());
        }
    }
    keys
}

#[test]
fn the_sample_holds_every_key_and_no_other() {
    let known: Vec<String> = keys().into_iter().map(|key| key.path).collect();
    let sample: Vec<String> = sample_keys().into_keys().collect();
    assert_eq!(sample, known);
    assert_eq!(known.len(), 100);
}

#[test]
fn the_sample_shows_the_defaults() {
    let sample = sample_keys();
    for key in keys().iter().filter(|key| !key.path.contains("[]") && !key.path.contains("NAME")) {
        let value = &sample[&key.path][0];
        let is_example = value.contains("# example");
        let shown = value.split('#').next().unwrap().trim();
        assert!(
            is_example || key.default.starts_with(shown),
            "{}: {value} but {}",
            key.path,
            key.default
        );
        assert!(is_example || shown != "-", "{}", key.path);
    }
}

#[test]
fn the_sample_without_its_comment_signs_is_good_but_for_its_examples() {
    let is_key = |line: &str| {
        line.starts_with('[')
            || line.starts_with("          ")
            || line.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '`']))
    };
    let uncommented: String = default_text()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // A user of the mail server needs the password in such a file.
            Some(rest) if is_key(rest) && !rest.contains("_file") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let settings = parse(&uncommented).unwrap();
    let names: Vec<&str> = settings.sources.iter().map(|source| &*source.capture.name).collect();
    assert_eq!(names, ["microphone", "garden", "recording", "pipe"]);
    assert_eq!(settings.detection.overrides.len(), 1);
    assert_eq!(remote(&settings).host, "broker.local");
    let alerts: Vec<(&str, usize)> =
        settings.alerts.alerts.iter().map(|alert| (&*alert.name, alert.actions.len())).collect();
    assert_eq!(alerts, [("siren", 2), ("barking", 1), ("noise", 1), ("neighbour", 1)]);
    let none = parse("").unwrap();
    assert_eq!(settings.hop_s, none.hop_s);
    assert_eq!(settings.publish.level_interval, none.publish.level_interval);
}

/// Rows of the documentation's tables: path, kind, default, allowed, variable, live.
fn documented() -> BTreeMap<String, Vec<String>> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<String> =
            row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        (cells[0].trim_matches('`').to_owned(), cells)
    })
    .collect()
}

#[test]
fn the_documentation_agrees_with_the_code() {
    let rows = documented();
    let known = keys();
    assert_eq!(rows.len(), known.len());
    for key in known {
        let cells = &rows[&key.path];
        let is_scalar_table = !key.path.contains("[]") && !key.path.contains("NAME");
        let variable =
            if is_scalar_table { format!("`{}`", variable(&key.path)) } else { "-".to_owned() };
        let default =
            if key.default == "-" { "-".to_owned() } else { format!("`{}`", key.default) };
        assert_eq!(cells[1], key.kind, "{}", key.path);
        assert_eq!(cells[2].replace('`', ""), default.replace('`', ""), "{}", key.path);
        assert_eq!(cells[3].replace('`', ""), key.allowed.replace('`', ""), "{}", key.path);
        assert_eq!(cells[4], variable, "{}", key.path);
        assert!(matches!(cells[5].as_str(), "yes" | "restart"), "{}", key.path);
    }
}

#[test]
fn keys_and_variables_stand_for_each_other() {
    for key in keys() {
        assert!(!key.path.contains("__"), "{}", key.path);
        assert!(
            !key.path.split('.').any(|word| word.starts_with('_') || word.ends_with('_')),
            "{}",
            key.path
        );
        assert_eq!(
            key.path
                .chars()
                .filter(|c| c.is_ascii_uppercase())
                .collect::<String>()
                .trim_matches(['N', 'A', 'M', 'E']),
            ""
        );
    }
    assert_eq!(variable("mqtt.home_assistant.prefix"), "HEARKEN_MQTT__HOME_ASSISTANT__PREFIX");
}

// ---- what is accepted ---------------------------------------------------------------------------

#[test]
fn every_kind_of_source_is_read() {
    let settings = parse(
        r#"
        [[source]]
        name = "attic"
        device = "id:alsa:hw:1"
        channel = "first"
        [[source]]
        name = "cellar"
        device = "name:USB"
        [[source]]
        name = "tape"
        file = "tape.wav"
        pace = "fast"
        repeat = true
        [[source]]
        name = "pipe"
        stdin = true
        sample_rate_hz = 48000
        channels = 2
        sample_format = "f32le"
        [[source]]
        name = "camera"
        command = ["ffmpeg", "-i", "rtsp://camera/"]
        "#,
    )
    .unwrap();
    let origins: Vec<&Origin> =
        settings.sources.iter().map(|source| &source.capture.origin).collect();
    let stdin = PcmFormat { sample_rate_hz: 48_000, channels: 2, sample: PcmSample::F32Le };
    let format = PcmFormat { sample_rate_hz: 32_000, channels: 1, sample: PcmSample::S16Le };
    let argv = ["ffmpeg", "-i", "rtsp://camera/"].map(str::to_owned).to_vec();
    let expected = [
        Origin::Device(DeviceSelect::Id("alsa:hw:1".to_owned())),
        Origin::Device(DeviceSelect::Name("USB".to_owned())),
        Origin::File { path: "tape.wav".into(), pace: Pace::Fast, repeat: true },
        Origin::Stdin(stdin),
        Origin::Command { argv, format },
    ];
    assert_eq!(origins, expected.iter().collect::<Vec<_>>());
    assert_eq!(settings.sources[0].channel, ChannelChoice::First);
    assert_eq!(settings.sources[1].channel, ChannelChoice::Mix);
}

#[test]
fn rules_override_by_class() {
    let settings = parse(
        "[detection]\nclasses = [\"dog\"]\n[detection.class.dog]\non = 1\nhits = 2\nsuppressed_by = []\n\
         [detection.class.\"glass breaking\"]\nhold_s = 2.5",
    )
    .unwrap();
    let dog = RuleOverride {
        on: Some(1.0),
        hits: Some(2),
        suppressed_by: Some(Vec::new()),
        ..RuleOverride::default()
    };
    let glass = RuleOverride { hold_s: Some(2.5), ..RuleOverride::default() };
    let expected = vec![("dog".to_owned(), dog), ("glass breaking".to_owned(), glass)];
    assert_eq!(settings.detection.overrides, expected);
    assert_eq!(settings.detection.classes, ["dog"]);
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let text = b"[detection]\nsensitivity = 0.1\nmin_level_dbfs = -50\nclasses = [\"cat\"]\n[analysis]\nhop_s = 1";
    let environment = environment(&[
        ("HEARKEN_DETECTION__SENSITIVITY", "0.2"),
        ("HEARKEN_DETECTION__MIN_LEVEL_DBFS", "-40"),
        ("HEARKEN_DETECTION__CLASSES", "dog, siren"),
        ("HEARKEN_MQTT__SCORES", "true"),
        ("HEARKEN_MQTT__HOME_ASSISTANT__PREFIX", "ha"),
        ("HEARKEN_MQTT__KEEP_ALIVE_S", ""),
        ("HEARKEN_CONFIG", "anything"),
    ]);
    let flags = set(&["detection.sensitivity=0.3", "detection.class.dog.on = 0.25"]);
    let settings = from_bytes(text, None, &environment, &flags).unwrap();
    assert_eq!(settings.detection.sensitivity, 0.3);
    assert_eq!(settings.detection.min_level_dbfs, -40.0);
    assert_eq!(settings.detection.classes, ["dog", "siren"]);
    assert_eq!(settings.detection.overrides[0].1.on, Some(0.25));
    assert_eq!(settings.hop_s, 1.0);
    assert!(settings.publish.scores);
    assert_eq!(settings.publish.discovery_prefix.as_deref(), Some("ha"));
    assert_eq!(settings.publish.keep_alive, Duration::from_secs(30));
}

#[test]
fn lists_in_variables_may_be_toml() {
    let environment = environment(&[("HEARKEN_DETECTION__CLASSES", r#"["dog, bark", "cat"]"#)]);
    let settings = from_bytes(b"", None, &environment, &Overrides::default()).unwrap();
    assert_eq!(settings.detection.classes, ["dog, bark", "cat"]);
}

#[test]
fn source_flags_replace_the_files_sources() {
    let flags = Overrides {
        sources: SourceFlags {
            devices: vec!["name:USB".to_owned()],
            files: vec!["a/Night 1.wav".into(), "b/night-1.wav".into()],
            fast: true,
            stdin: true,
            channels: Some(2),
            channel: Some("first".to_owned()),
            ..SourceFlags::default()
        },
        node: Some("n1".to_owned()),
        model: Some("m.onnx".to_owned()),
        log_level: Some("trace".to_owned()),
        mqtt_host: Some("::1".to_owned()),
        mqtt_port: Some("1884".to_owned()),
        ..Overrides::default()
    };
    let text = b"[[source]]\nname = \"x\"\ndevice = \"default\"";
    let settings =
        from_bytes(text, Some(Path::new("/etc/h/c.toml")), &environment(&[]), &flags).unwrap();
    let names: Vec<&str> = settings.sources.iter().map(|source| &*source.capture.name).collect();
    assert_eq!(names, ["microphone", "night-1", "night-1-2", "stdin"]);
    assert!(settings.sources.iter().all(|source| source.channel == ChannelChoice::First));
    let path = PathBuf::from("a/Night 1.wav");
    assert_eq!(
        settings.sources[1].capture.origin,
        Origin::File { path, pace: Pace::Fast, repeat: false }
    );
    assert_eq!(settings.model, Some("m.onnx".into()));
    assert_eq!((&*settings.node, settings.log.level), ("n1", LogLevel::Trace));
    assert_eq!((remote(&settings).host.as_str(), remote(&settings).port), ("::1", 1884));
}

#[test]
fn paths_in_the_file_are_relative_to_its_folder() {
    let text = b"[model]\npath = \"m.onnx\"\n[[source]]\nname = \"a\"\nfile = \"/abs.wav\"";
    let environment = environment(&[]);
    let path = Some(Path::new("/etc/hearken/config.toml"));
    let settings = from_bytes(text, path, &environment, &Overrides::default()).unwrap();
    assert_eq!(settings.model, Some("/etc/hearken/m.onnx".into()));
    let Origin::File { path, .. } = &settings.sources[0].capture.origin else { panic!() };
    assert_eq!(path, Path::new("/abs.wav"));
}

#[test]
fn the_broker_follows_host_tls_and_enabled() {
    assert_eq!(parse("[mqtt]\nenabled = false\nhost = \"b\"").unwrap().publish.broker, Broker::Off);
    let embedded = parse("[mqtt]\nembedded_port = 1999").unwrap();
    assert_eq!(embedded.publish.broker, Broker::Embedded { port: 1999 });
    let plain = parse("[mqtt]\nhost = \"b\"\nversion = \"5\"").unwrap();
    let plain = remote(&plain);
    assert_eq!(
        (plain.port, plain.version, plain.client_id.as_str()),
        (1883, ProtocolVersion::V5, "hearken-attic")
    );
    assert_eq!(
        remote(&parse("[mqtt]\nhost = \"b\"\n[mqtt.tls]\nenabled = true").unwrap()).port,
        8883
    );
    let silent = parse("[mqtt.home_assistant]\nenabled = false").unwrap();
    assert_eq!(silent.publish.discovery_prefix, None);
}

#[test]
fn the_password_comes_from_its_file_or_from_systemd() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mqtt_password"), "from systemd\n").unwrap();
    std::fs::write(folder.path().join("mine"), " from file \r\n").unwrap();
    let config = folder.path().join("config.toml");
    let environment = Environment {
        credentials_directory: Some(folder.path().to_path_buf()),
        ..environment(&[])
    };
    let password = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let settings = load(Some(&config), &environment, &Overrides::default()).unwrap();
        remote(&settings).password.as_ref().map(|secret| secret.reveal().to_owned())
    };
    let user = "[mqtt]\nhost = \"b\"\nuser = \"u\"\n";
    assert_eq!(password(user).as_deref(), Some("from systemd"));
    assert_eq!(
        password(&format!("{user}password_file = \"mine\"")).as_deref(),
        Some(" from file ")
    );
    assert_eq!(password("[mqtt]\nhost = \"b\""), None);
    // What the unit gives when nobody has set a password.
    std::fs::write(folder.path().join("mqtt_password"), "\n").unwrap();
    assert_eq!(password(user), None);
}

/// A value for every key, none of them the default; PEM is a file.
const EVERY_KEY: &str = r#"
        node = "N"
        model.path = "m \" \\ é.onnx"
        analysis.hop_s = 0.3
        log.level = "off"
        [detection]
        sensitivity = 0.1
        min_level_dbfs = -33.3
        classes = ["a", "b\"c"]
        [detection.class."a.\"b"]
        on = 0.9
        off = 0.2
        hits = 2
        of = 5
        at_once = 0.97
        min_duration_s = 0.7
        hold_s = 1.1
        cooldown_s = 86400
        suppressed_by = ["b"]
        [[source]]
        name = "f"
        file = "f.wav"
        pace = "fast"
        repeat = true
        channel = "first"
        [[source]]
        name = "c"
        command = ["cat", "", "é \""]
        sample_rate_hz = 8000
        channels = 8
        sample_format = "s24le"
        [[source]]
        name = "d"
        device = "id:a:b"
        [mqtt]
        host = "b"
        port = 1
        version = "5"
        client_id = "c"
        user = "u"
        topic_prefix = "a/b"
        keep_alive_s = 5
        level_interval_s = 0.1
        level_deadband_db = 0.25
        scores = true
        queue_events_max = 7
        tls = { enabled = true, ca_file = PEM, client_cert_file = PEM, client_key_file = PEM }
        home_assistant.prefix = "h"
        [store]
        enabled = true
        folder = "/s \\\" t"
        keep_days = 3
        size_max_mb = 4
        [clips]
        enabled = true
        folder = "/c"
        before_s = 0.5
        after_s = 1.25
        length_max_s = 9.5
        size_max_mb = 6
        classes = ["a"]
        never_record = []
        [alerts]
        time_zone = "Asia/Kathmandu"
        quiet_hours = "sat,sun 23:30-09:00"
        [alerts.smtp]
        host = "s"
        port = 25
        tls = "none"
        from = "a@b.c"
        [[alert]]
        name = "one"
        classes = ["a", "b\"c"]
        min_score = 0.25
        sources = ["f", "d"]
        min_duration_s = 0.5
        count = 3
        within_s = 9.5
        schedule = ["mon-fri 08:00-18:00", "22:00-07:00"]
        in_quiet_hours = true
        cooldown_s = 0
        escalate_after_s = 1.5
        escalate_to = "three"
        command = ["/bin/x", "", "{class} {{é\n"]
        command_timeout_s = 300
        webhook = "https://h:1/"
        webhook_body = "{{\"a\\\"\": \"{id}\"}}\n"
        [[alert]]
        name = "two"
        level_over_dbfs = -12.5
        mqtt_topic = "x/y"
        mqtt_payload = "{level}"
        mqtt_retain = true
        ntfy = "http://n"
        ntfy_priority = 1
        title = "t {stage}"
        message = "m\n{duration}"
        [[alert]]
        name = "three"
        only_escalated = true
        email_to = ["me@example.org", "you@example.org"]
    "#;

#[test]
fn every_key_that_is_not_at_its_default_is_printed_and_read_again() {
    let pem = tempfile::NamedTempFile::new().unwrap();
    let text = EVERY_KEY.replace("PEM", &raw::quoted(pem.path().to_str().unwrap()));
    let mut settings = parse(&text).unwrap();
    let shown = effective_text(&settings);
    // What is sent somewhere may hold a key: it is not shown, and so not read again.
    assert!(!shown.contains("{id}") && !shown.contains("{level}"), "{shown}");
    for action in settings.alerts.alerts.iter_mut().flat_map(|alert| &mut alert.actions) {
        match action {
            Action::Webhook(webhook) => webhook.body = None,
            Action::Mqtt(mqtt) => mqtt.payload = None,
            _ => {}
        }
    }
    assert_eq!(parse(&shown).unwrap(), settings, "{shown}");
    for key in [
        "scores = true",
        "level_interval_s = 0.1\n",
        "hop_s = 0.3\n",
        "repeat = true",
        "prefix = \"h\"",
        "after_s = 1.25\n",
        "time_zone = \"Asia/Kathmandu\"",
        "schedule = [\"mon-fri 08:00-18:00\", \"22:00-07:00\"]",
        "within_s = 9.5\n",
        "only_escalated = true",
    ] {
        assert!(shown.contains(key), "{key}: {shown}");
    }
}

// ---- what is refused ----------------------------------------------------------------------------

#[test]
fn three_mistakes_give_three_lines() {
    let error =
        parse("[detection]\nsensitivity = 1.5\n\n[analysis]\nhop = 1\n[log]\nlevel = \"loud\"")
            .unwrap_err();
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "3 problems in the configuration",
            "  line 2: detection.sensitivity = 1.5: must be a number from 0 to 1",
            "  line 5: analysis.hop: unknown key; did you mean `hop_s`?",
            "  line 7: log.level = \"loud\": must be \"off\" or \"error\" or \"warn\" or \"info\" or \"debug\" or \"trace\"",
        ]
    );
}

#[test]
fn mistakes_name_place_key_value_and_way_out() {
    for (text, expected) in [
        ("nod = 1", "line 1: nod: unknown key; did you mean `node`?"),
        ("node = \"a b\"", "line 1: node = \"a b\": must be 1 to 64 of A-Z, a-z, 0-9, `_` and `-`"),
        (
            "sensitivity = 1",
            "line 1: sensitivity: unknown key; did you mean `detection.sensitivity`?",
        ),
        ("[detektion]\non = 1", "line 1: detektion: unknown key; did you mean `detection`?"),
        (
            "zzzzzzzz = 1",
            "line 1: zzzzzzzz: unknown key; `hearken config default` prints all of them",
        ),
        ("mqtt = 5", "line 1: mqtt: must be a table of keys"),
        ("[analysis]\nhop_s = nan", "line 2: analysis.hop_s = NaN: must be a number from 0.1 to 5"),
        ("[analysis]\nhop_s = inf", "line 2: analysis.hop_s = inf: must be a number from 0.1 to 5"),
        (
            "[analysis]\nhop_s = 1979-05-27",
            "line 2: analysis.hop_s = 1979-05-27: must be a number from 0.1 to 5",
        ),
    ] {
        assert_eq!(problem(text), expected, "{text}");
    }
}

#[test]
fn mistakes_in_tables_name_them_too() {
    for (text, expected) in [
        (
            "[mqtt]\nembedded_port = 0",
            "line 2: mqtt.embedded_port = 0: must be a whole number from 1 to 65535",
        ),
        (
            "[mqtt]\nembedded_port = 1.0",
            "line 2: mqtt.embedded_port = 1.0: must be a whole number from 1 to 65535",
        ),
        ("[mqtt]\nscores = 1", "line 2: mqtt.scores = 1: must be true or false"),
        (
            "[mqtt]\nport = 1",
            "line 2: mqtt.port = 1: only with mqtt.host; the port of the embedded broker is mqtt.embedded_port",
        ),
        ("[mqtt]\nuser = \"u\"", "line 2: mqtt.user = \"u\": only with mqtt.host"),
        (
            "[mqtt.tls]\nenabled = true",
            "line 2: mqtt.tls.enabled = true: only with mqtt.host; the embedded broker is on this machine alone",
        ),
        (
            "[mqtt]\nhost = \"mqtt://u:pw@b\"",
            "line 2: mqtt.host = \"mqtt://<hidden>@b\": must be a host name or address alone, without `mqtt://` and port",
        ),
        (
            "[mqtt]\ntopic_prefix = \"a/#\"",
            "line 2: mqtt.topic_prefix = \"a/#\": must be 1 to 128 characters: levels with `/` between them, without `+`, `#` or a leading `$`",
        ),
        (
            "[detection.class.dog]\non = 0.5\noff = 0.6",
            "line 3: detection.class.dog.off = 0.6: must not be over `on`, which is 0.5",
        ),
        (
            "[detection.class.dog]\non = 0.9\nat_once = 0.8",
            "line 3: detection.class.dog.at_once = 0.8: must not be under `on`, which is 0.9",
        ),
        (
            "[detection.class.dog]\nhits = 4\nof = 3",
            "line 2: detection.class.dog.hits = 4: must not be over `of`, which is 3",
        ),
        (
            "[detection.class.dog]\nonn = 4",
            "line 2: detection.class.dog.onn: unknown key; did you mean `on`?",
        ),
        (
            "[detection.class.dog]\nsuppressed_by = [\"dog\"]",
            "line 2: detection.class.dog.suppressed_by = [\"dog\"]: must be a list of at most 64 different other class names",
        ),
        (
            "[detection]\nclasses = [\"a\", \"a\"]",
            "line 2: detection.classes = [\"a\", \"a\"]: must be a list of at most 1024 different class names",
        ),
        ("source = []", "source: names no source; leave it out to hear the default microphone"),
    ] {
        assert_eq!(problem(text), expected, "{text}");
    }
}

#[test]
fn mistakes_in_sources_name_the_source() {
    let source = |keys: &str| problem(&format!("[[source]]\nname = \"a\"\n{keys}"));
    for (keys, expected) in [
        ("", "line 1: source.a: needs one of device, file, stdin or command"),
        ("stdin = false", "line 1: source.a: needs one of device, file, stdin or command"),
        (
            "device = \"default\"\nstdin = true",
            "line 1: source.a: has more than one of device, file, stdin or command; make them sources of their own",
        ),
        (
            "device = \"usb\"",
            "line 3: source.a.device = \"usb\": must be \"default\", \"id:...\" or \"name:...\" as `hearken devices` prints them",
        ),
        (
            "device = \"default\"\nrepeat = true",
            "line 4: source.a.repeat = true: only for a source with file",
        ),
        (
            "file = \"f\"\nchannels = 2",
            "line 4: source.a.channels = 2: only for a source with stdin or command",
        ),
        (
            "stdin = true\nchannels = 33",
            "line 4: source.a.channels = 33: must be a whole number from 1 to 32",
        ),
        (
            "device = \"default\"\nchannel = \"left\"",
            "line 4: source.a.channel = \"left\": must be \"mix\" or \"first\"",
        ),
        (
            "device = \"default\"\nchanel = \"mix\"",
            "line 4: source.a.chanel: unknown key; did you mean `channel`?",
        ),
        (
            "file = \"\\u001b[2J\"",
            "line 3: source.a.file = \"\\\\u{1b}[2J\": must be a path of 1 to 4096 characters",
        ),
    ] {
        assert_eq!(source(keys), expected, "{keys}");
    }
    for argv in ["[]", "[\"\"]", "[1]", "\"ffmpeg\"", "[\"a\", \"\\u0000\"]"] {
        let message = source(&format!("command = {argv}"));
        assert!(
            message.starts_with("line 3: source.a.command = [...]: must be a list"),
            "{message}"
        );
    }
    assert_eq!(
        problem("[[source]]\ndevice = \"default\""),
        "line 1: source[1].name: each source needs a name: 1 to 64 of a-z, 0-9, `_` and `-`"
    );
    let long = format!("[[source]]\nname = \"{}\"\ndevice = \"default\"", "x".repeat(65));
    assert!(problem(&long).contains("xxx…\": must be 1 to 64"), "{}", problem(&long));
}

#[test]
fn sources_must_differ() {
    let twice = "[[source]]\nname = \"a\"\nstdin = true\n".repeat(2);
    assert_eq!(
        problems(parse(&twice)),
        [
            "line 5: source.a.name = \"a\": another source has this name; each needs its own",
            "line 6: source.a.stdin = true: another source reads standard input; only one can",
        ]
    );
    let many: String =
        (0..65).map(|at| format!("[[source]]\nname = \"s{at}\"\ndevice = \"default\"\n")).collect();
    assert_eq!(problem(&many), "line 1: source: 65 tables; at most 64 are allowed");
}

#[test]
fn syntax_errors_have_line_and_column() {
    let all = problems(parse("node = \"a\"\n[log\n"));
    assert!(all[0].starts_with("line 2, column 5: not valid TOML: "), "{all:?}");
    let twice = problem("[log]\nlevel = \"info\"\nlevel = \"warn\"");
    assert_eq!(twice, "line 3, column 1: not valid TOML: duplicate key");
    let bytes = from_bytes(b"# \n\xff", None, &environment(&[]), &Overrides::default());
    assert_eq!(problems(bytes), ["line 2: not UTF-8 text"]);
}

#[test]
fn variables_and_flags_are_checked_as_strictly() {
    let mut environment = environment(&[
        ("HEARKEN_DETECTION__SENSITIVTY", "1"),
        ("HEARKEN_LOG__LEVEL", "loud"),
        ("HEARKEN_MQTT__PASSWORD", "hunter2"),
        ("HEARKEN_SOURCE__A__DEVICE", "default"),
        ("HEARKEN_log__level", "info"),
    ]);
    environment.not_unicode.push("HEARKEN_NODE".to_owned());
    let mut flags =
        set(&["mqtt.scores=yes", "analysis.hop_s", "mqtt.password=hunter2", "nonsense=hunter2"]);
    flags.sources.fast = true;
    let all = problems(from_bytes(b"", None, &environment, &flags));
    let password = "passwords do not belong here; name a file with mqtt.password_file, or hand over the systemd \
                    credential mqtt_password";
    assert_eq!(
        all,
        [
            "HEARKEN_DETECTION__SENSITIVTY: detection.sensitivty: unknown variable; did you mean HEARKEN_DETECTION__SENSITIVITY?".to_owned(),
            "HEARKEN_LOG__LEVEL: log.level = \"loud\": must be \"off\" or \"error\" or \"warn\" or \"info\" or \"debug\" or \"trace\"".to_owned(),
            format!("HEARKEN_MQTT__PASSWORD: mqtt.password: {password}"),
            "HEARKEN_NODE: the value must be UTF-8 text".to_owned(),
            "HEARKEN_SOURCE__A__DEVICE: source.a.device: can not be set here; write it in the configuration file".to_owned(),
            "HEARKEN_log__level: HEARKEN_log__level: unknown key; `hearken config default` prints all of them".to_owned(),
            "--fast: only together with --file".to_owned(),
            "--set: must be KEY=VALUE, but there is no `=` after `analysis.hop_s`".to_owned(),
            "--set: mqtt.scores = \"yes\": must be true or false".to_owned(),
            format!("--set: mqtt.password: {password}"),
            "--set: nonsense: unknown key; `hearken config default` prints all of them".to_owned(),
        ]
    );
}

#[test]
fn files_that_are_not_there_are_named() {
    let text = "[mqtt]\nhost = \"b\"\nuser = \"u\"\npassword_file = \"/no/such\"\n[mqtt.tls]\nenabled = true\nca_file = \"/no/ca\"";
    let all = problems(parse(text));
    assert!(
        all[0].contains("line 4: mqtt.password_file") && all[0].contains("/no/such: No such file"),
        "{all:?}"
    );
    assert!(
        all[1].contains("line 7: mqtt.tls.ca_file") && all[1].contains("/no/ca: No such file"),
        "{all:?}"
    );
    let error = load(Some(Path::new("/no/config.toml")), &environment(&[]), &Overrides::default())
        .unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().contains("/no/config.toml: No such file"), "{error}");
}

#[test]
fn certificates_that_would_not_be_used_are_refused() {
    let text = "[mqtt]\nhost = \"b\"\n[mqtt.tls]\nca_file = \"ca.pem\"";
    assert!(problem(text).contains("set mqtt.tls.enabled to true to use it"), "{}", problem(text));
    assert!(parse(&format!("{text}\nenabled = false")).is_ok());
    let file = tempfile::NamedTempFile::new().unwrap();
    let half = format!(
        "[mqtt]\nhost = \"b\"\n[mqtt.tls]\nenabled = true\nclient_cert_file = {:?}",
        file.path()
    );
    assert!(
        problem(&half).ends_with("needs mqtt.tls.client_key_file beside it"),
        "{}",
        problem(&half)
    );
}

#[test]
fn what_is_huge_is_refused_in_little_space() {
    let too_long = vec![b'#'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
    let all = problems(from_bytes(&too_long, None, &environment(&[]), &Overrides::default()));
    assert_eq!(all, ["the file is longer than 1048576 bytes"]);
    for text in [
        "k".repeat(100_000) + " = 1",
        "a.".repeat(100_000) + "a = 1",
        "a = ".to_owned() + &"[".repeat(100_000),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.len() < 20_000, "{}", error.len());
    }
    let many: String = (0..1000).map(|at| format!("k{at} = 1\n")).collect();
    let ConfigError::Invalid { problems, more, .. } = parse(&many).unwrap_err() else { panic!() };
    assert_eq!((problems.len(), more), (PROBLEMS_MAX, 1000 - PROBLEMS_MAX));
}

#[test]
fn secrets_are_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pw");
    std::fs::write(&file, "hunter2").unwrap();
    let text = format!(
        "[mqtt]\nhost = \"b\"\nuser = \"u\"\npassword_file = {file:?}\n[[source]]\nname = \"a\"\n\
         command = [\"ffmpeg\", \"-i\", \"rtsp://me:hunter2@cam/?pw=hunter2\", \"--token\", \"hunter2\"]"
    );
    let settings = parse(&text).unwrap();
    assert_eq!(remote(&settings).password.as_ref().unwrap().reveal(), "hunter2");
    let Origin::Command { argv, .. } = &settings.sources[0].capture.origin else { panic!() };
    assert_eq!(argv[4], "hunter2");
    let shown = effective_text(&settings);
    assert!(
        shown.contains("# password: set (hidden)")
            && shown.contains("rtsp://<hidden>@cam/?<hidden>"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!format!("{settings:?}").contains("hunter2"));
    for bad in [
        "[mqtt]\npassword = \"hunter2\"",
        "[mqtt]\npasswort = \"hunter2\"",
        "[mqtt]\nhost = \"mqtt://u:hunter2@b\"",
        "[[source]]\nname = \"a\"\ndevice = \"rtsp://u:hunter2@b\"",
        "[[source]]\nname = \"a\"\ncommand = \"curl -u me:hunter2 http://b\"",
        "[mqtt]\npassword = \"hunter2",
    ] {
        let error = parse(bad).unwrap_err();
        assert!(
            !error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn alerts_are_read_with_their_defaults() {
    let settings = parse("[[alert]]\nname = \"a\"\nmqtt_topic = \"x\"").unwrap();
    let alert = &settings.alerts.alerts[0];
    assert_eq!(alert.trigger, Trigger::Sound { classes: Vec::new(), min_score: 0.0 });
    assert_eq!((alert.count, alert.cooldown_s, alert.in_quiet_hours), (1, 300.0, false));
    assert_eq!((&alert.escalation, alert.schedule.len()), (&None, 0));
    assert_eq!(alert.title.to_string(), "{class} at {source}");
    assert_eq!(settings.alerts.smtp, None);
    let wrapped =
        parse("[alerts.smtp]\nhost = \"s\"\ntls = \"wrapped\"\nfrom = \"a@b.c\"").unwrap();
    assert_eq!(wrapped.alerts.smtp.unwrap().port, 465);
}

#[test]
fn mistakes_in_alerts_name_the_alert() {
    let alert = |keys: &str| problem(&format!("[[alert]]\nname = \"a\"\n{keys}"));
    for (keys, expected) in [
        (
            "",
            "line 1: alert.a: needs an action: one or more of command, webhook, mqtt_topic, ntfy, email_to",
        ),
        (
            "mqtt_topic = \"x\"\nmqtt_retian = true",
            "line 4: alert.a.mqtt_retian: unknown key; did you mean `mqtt_retain`?",
        ),
        (
            "mqtt_topic = \"a/+\"",
            "line 3: alert.a.mqtt_topic = \"a/+\": must be 1 to 256 characters: levels with `/` between them, without `+`, `#` or a leading `$`",
        ),
        (
            "command = [\"x\", \"{klass}\"]",
            "line 3: alert.a.command = [...]: there is no placeholder {klass}; there are {alert} {class} {source} {node} {score} {level} {start} {start_local} {end} {duration} {count} {held_back} {stage} {id}",
        ),
        (
            "webhook = \"https://h\"\nwebhook_body = \"{\"",
            "line 4: alert.a.webhook_body = [...]: a { is never closed; write {{ for a brace that is meant as one",
        ),
        (
            "webhook = \"ftp://h/secret\"",
            "line 3: alert.a.webhook = \"ftp://h/<hidden>\": must be an address that begins with `https://` or `http://`, without user and password",
        ),
        (
            "email_to = [\"me@example.org\"]",
            "line 3: alert.a.email_to = [\"me@example.org\"]: needs alerts.smtp.host and alerts.smtp.from",
        ),
        (
            "command_timeout_s = 5\nmqtt_topic = \"x\"",
            "line 3: alert.a.command_timeout_s = 5: only with command",
        ),
        (
            "title = \"x\"\nmqtt_topic = \"x\"",
            "line 3: alert.a.title = \"x\": only with ntfy or email_to",
        ),
    ] {
        assert_eq!(alert(keys), expected, "{keys}");
    }
}

#[test]
fn conditions_of_alerts_fit_together() {
    let alert = |keys: &str| problem(&format!("[[alert]]\nname = \"a\"\n{keys}"));
    let topic = "mqtt_topic = \"x\"";
    for (keys, expected) in [
        (
            "schedule = [\"mon 8-9\"]",
            "line 4: alert.a.schedule = [\"mon 8-9\"]: must be a list of at most 32 stretches",
        ),
        (
            "sources = [\"cellar\"]",
            "line 4: alert.a.sources = [\"cellar\"]: no source has the name \"cellar\"; there are: microphone",
        ),
        ("within_s = 5", "line 4: alert.a.within_s = 5: only with a `count` of more than 1"),
        (
            "level_over_dbfs = -20\nclasses = [\"dog\"]",
            "line 5: alert.a.classes = [\"dog\"]: only without level_over_dbfs",
        ),
        ("escalate_to = \"b\"", "line 4: alert.a.escalate_to = \"b\": only with escalate_after_s"),
        (
            "escalate_after_s = 5\nescalate_to = \"b\"",
            "line 5: alert.a.escalate_to = \"b\": no alert has this name",
        ),
        (
            "only_escalated = true",
            "line 4: alert.a.only_escalated = true: no other alert names it in escalate_to",
        ),
    ] {
        let message = alert(&format!("{topic}\n{keys}"));
        assert!(message.starts_with(expected), "{message}");
    }
    let twice = format!("[[alert]]\nname = \"a\"\n{topic}\n").repeat(2);
    assert_eq!(
        problem(&twice),
        "line 5: alert.a.name = \"a\": another alert has this name; each needs its own"
    );
    let off = format!("[mqtt]\nenabled = false\n[[alert]]\nname = \"a\"\n{topic}");
    assert_eq!(problem(&off), "line 5: alert.a.mqtt_topic = \"x\": only with mqtt.enabled");
}

#[test]
fn an_alert_that_only_waits_for_others_has_no_conditions() {
    let two = |keys: &str| {
        let first = "[[alert]]\nname = \"a\"\nmqtt_topic = \"x\"\nescalate_after_s = 5\nescalate_to = \"b\"\n";
        parse(&format!(
            "{first}[[alert]]\nname = \"b\"\nonly_escalated = true\nmqtt_topic = \"y\"\n{keys}"
        ))
    };
    assert!(two("").is_ok());
    let all = problems(two("cooldown_s = 5\nclasses = []"));
    let expected = "has no effect with only_escalated: the alert that escalates decides";
    assert_eq!(
        all,
        [
            format!("line 10: alert.b.cooldown_s = 5: {expected}"),
            format!("line 11: alert.b.classes = []: {expected}")
        ]
    );
}

#[test]
fn the_mail_server_is_used_as_it_should_be() {
    let smtp = |keys: &str| problem(&format!("[alerts.smtp]\n{keys}"));
    for (keys, expected) in [
        ("port = 25", "line 2: alerts.smtp.port = 25: only with alerts.smtp.host"),
        (
            "host = \"h\"",
            "line 1: alerts.smtp.from: needed with alerts.smtp.host: an address alone, as me@example.org, in ASCII",
        ),
        (
            "host = \"h\"\nfrom = \"a@b\"\nuser = \"u\"",
            "line 4: alerts.smtp.user = \"u\": needs alerts.smtp.password_file beside it, or the systemd credential smtp_password",
        ),
        (
            "host = \"h\"\nfrom = \"a@b\"\npassword = \"hunter2\"",
            "line 4: alerts.smtp.password: passwords do not belong here; name a file with alerts.smtp.password_file, or hand over the systemd credential smtp_password",
        ),
    ] {
        assert_eq!(smtp(keys), expected, "{keys}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let keys =
        format!("from = \"a@b\"\nuser = \"u\"\ntls = \"none\"\npassword_file = {:?}", file.path());
    let open = smtp(&format!("host = \"h\"\n{keys}"));
    assert!(
        open.ends_with("would send the password in the open; use \"starttls\" or \"wrapped\""),
        "{open}"
    );
    let here = parse(&format!("[alerts.smtp]\nhost = \"localhost\"\n{keys}")).unwrap();
    assert_eq!(here.alerts.smtp.unwrap().password.unwrap().reveal(), "hunter2");
    let unknown = problem("[alerts]\ntime_zone = \"Middle/Earth\"");
    assert!(unknown.contains("must be a name in the system's list of time zones"), "{unknown}");
}

#[test]
fn secrets_of_alerts_are_shown_nowhere() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let path = file.path();
    let text = format!(
        "[alerts.smtp]\nhost = \"h\"\nfrom = \"a@b\"\nuser = \"u\"\npassword_file = {path:?}\n\
         [[alert]]\nname = \"a\"\nwebhook = \"https://h/hunter2\"\nwebhook_secret_file = {path:?}\n\
         ntfy = \"https://n/hunter2?x=hunter2\"\nntfy_token_file = {path:?}\n\
         command = [\"curl\", \"--token\", \"hunter2\"]"
    );
    let settings = parse(&text).unwrap();
    let shown = effective_text(&settings);
    for line in [
        "# password: set (hidden)",
        "# webhook_secret: set (hidden)",
        "# ntfy_token: set (hidden)",
        "https://h/<hidden>",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!format!("{settings:?}").contains("hunter2"));
    for bad in [
        "webhook = \"https:/h/hunter2\"",
        "webhook = \"https://me:hunter2@h/\"",
        "ntfy = \"ntfy.sh/hunter2\"",
    ] {
        let error = parse(&format!("[[alert]]\nname = \"a\"\n{bad}")).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

// ---- properties ---------------------------------------------------------------------------------

/// Whether `settings` keep every documented range.
fn is_in_range(settings: &Settings) -> bool {
    let unit = |value: Option<f32>| value.is_none_or(|value| (0.0..=1.0).contains(&value));
    let hour = |value: Option<f32>| value.is_none_or(|value| (0.0..=3600.0).contains(&value));
    let rules = settings.detection.overrides.iter().all(|(_, rule)| {
        unit(rule.on)
            && unit(rule.off)
            && rule.off.zip(rule.on).is_none_or(|(off, on)| off <= on)
            && unit(rule.at_once)
            && rule.at_once.zip(rule.on).is_none_or(|(at_once, on)| at_once >= on)
            && rule.of.is_none_or(|of| (1..=64).contains(&of))
            && rule.hits.is_none_or(|hits| (1..=rule.of.unwrap_or(64)).contains(&hits))
            && hour(rule.min_duration_s)
            && hour(rule.hold_s)
            && rule.cooldown_s.is_none_or(|value| (0.0..=86_400.0).contains(&value))
    });
    let publish = &settings.publish;
    let alerts = settings.alerts.alerts.iter().all(|alert| {
        hour(Some(alert.min_duration_s))
            && (1..=1_000).contains(&alert.count)
            && (0.0..=86_400.0).contains(&alert.cooldown_s)
            && !alert.actions.is_empty()
    });
    rules
        && alerts
        && settings.alerts.alerts.len() <= ALERTS_MAX
        && (1..=SOURCES_MAX).contains(&settings.sources.len())
        && (0.1..=5.0).contains(&settings.hop_s)
        && unit(Some(settings.detection.sensitivity))
        && (-120.0..=0.0).contains(&settings.detection.min_level_dbfs)
        && (5..=3600).contains(&publish.keep_alive.as_secs())
        && (Duration::from_millis(100)..=Duration::from_secs(3600))
            .contains(&publish.level_interval)
        && (0.0..=60.0).contains(&publish.level_deadband_db)
        && (1..=1_000_000).contains(&publish.queue_events_max)
        && publish.broker != (Broker::Embedded { port: 0 })
}

/// TOML for a value of any type, often one that some key takes.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        (-2.0f64..7.0).prop_map(|number| format!("{number:?}")),
        any::<f32>().prop_map(|number| if number.is_nan() {
            "nan".to_owned()
        } else {
            format!("{number:?}").replace("e", "0e")
        }),
        (0i64..100).prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|value| value.to_string()),
        "[a-z0-9_:/$ é\"\\\\]{0,12}".prop_map(|text| raw::quoted(&text)),
        prop::sample::select(vec![
            "\"mix\"",
            "\"fast\"",
            "\"5\"",
            "\"debug\"",
            "\"default\"",
            "[\"a\", \"b\"]",
            "[\"22:00-07:00\"]",
            "\"https://h\"",
            "[]",
            "{}"
        ])
        .prop_map(str::to_owned),
    ]
}

/// A file of known keys with any values.
fn any_file() -> impl Strategy<Value = String> {
    let paths: Vec<String> = keys().into_iter().map(|key| key.path).collect();
    let pair = (prop::sample::select(paths), any_value());
    (prop::collection::vec(pair, 0..8), 0usize..3).prop_map(|(pairs, sources)| {
        let pairs: BTreeMap<String, String> = pairs.into_iter().collect();
        let (in_tables, outside): (Vec<_>, Vec<_>) =
            pairs.iter().partition(|(path, _)| path.contains("[]"));
        let (in_source, in_alert): (Vec<_>, Vec<_>) =
            in_tables.into_iter().partition(|(path, _)| path.starts_with("source"));
        let mut text = String::new();
        for (path, value) in outside {
            text.push_str(&format!("{path} = {value}\n"));
        }
        for at in 0..sources {
            text.push_str(&format!("[[source]]\nname = \"s{at}\"\n"));
            for (path, value) in &in_source {
                let key = path.trim_start_matches("source[].");
                if key != "name" {
                    text.push_str(&format!("{key} = {value}\n"));
                }
            }
        }
        for at in 0..sources {
            text.push_str(&format!("[[alert]]\nname = \"a{at}\"\nmqtt_topic = \"x\"\n"));
            for (path, value) in &in_alert {
                let key = path.trim_start_matches("alert[].");
                if !matches!(key, "name" | "mqtt_topic") {
                    text.push_str(&format!("{key} = {value}\n"));
                }
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(crate::testing::cases(512))]

    #[test]
    fn any_bytes_are_taken_calmly(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(settings) = from_bytes(&bytes, None, &environment(&[]), &Overrides::default()) {
            prop_assert!(is_in_range(&settings));
        }
    }

    #[test]
    fn any_known_keys_end_in_settings_or_named_problems(text in any_file()) {
        match parse(&text) {
            Ok(settings) => prop_assert!(is_in_range(&settings), "{}", text),
            Err(error) => {
                let shown = error.to_string();
                prop_assert!(!shown.contains("unknown key") && !shown.contains("not valid TOML"), "{}\n{}", text, shown);
                prop_assert!(!shown.contains("{ ... }") || shown.contains("must be"), "{}", shown);
            }
        }
    }

    #[test]
    fn accepted_settings_are_printed_and_read_again(text in any_file()) {
        if let Ok(settings) = parse(&text) {
            let shown = effective_text(&settings);
            prop_assert_eq!(parse(&shown).map_err(|error| error.to_string()), Ok(settings), "{}", shown);
        }
    }

    #[test]
    fn any_number_is_kept_or_refused_by_its_range(sensitivity in -0.5f32..1.5, hop_s in 0.0f32..6.0, of in 0u32..70) {
        let text = format!("[detection]\nsensitivity = {sensitivity:?}\n[analysis]\nhop_s = {hop_s:?}\n[detection.class.a]\nof = {of}");
        let text = text.replace("e-", "0e-");
        let is_good = (0.0..=1.0).contains(&sensitivity) && (0.1..=5.0).contains(&hop_s) && (1..=64).contains(&of);
        match parse(&text) {
            Ok(settings) => {
                prop_assert!(is_good);
                prop_assert_eq!((settings.detection.sensitivity, settings.hop_s), (sensitivity, hop_s));
                let shown = effective_text(&settings);
                prop_assert_eq!(parse(&shown).unwrap(), settings);
            }
            Err(_) => prop_assert!(!is_good, "{}", text),
        }
    }

    #[test]
    fn mutations_of_the_sample_never_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[\\[\\]#=\".\n a-z0-9\\\\]{0,6}"), 1..12),
        uncomment in any::<bool>(),
    ) {
        let sample = if uncomment { default_text().replace("\n#", "\n") } else { default_text().to_owned() };
        let mut bytes = sample.into_bytes();
        for (at, length, insert) in cuts {
            let at = at.index(bytes.len());
            let end = (at + length.index(8)).min(bytes.len());
            bytes.splice(at..end, insert.bytes());
        }
        match from_bytes(&bytes, None, &environment(&[]), &Overrides::default()) {
            Ok(settings) => prop_assert!(is_in_range(&settings)),
            Err(error) => prop_assert!(error.to_string().lines().count() >= 2),
        }
    }

    #[test]
    fn any_variables_and_flags_are_taken_calmly(
        name in "HEARKEN_[A-Za-z_.é]{0,20}", value in any::<String>(), pair in any::<String>(),
    ) {
        let all = from_bytes(b"", None, &environment(&[(&name, &value)]), &set(&[&pair]));
        prop_assert!(all.is_err(), "nobody could have meant this");
    }
}
