//! Alerts: `[alerts]`, `[alerts.smtp]` and the `[[alert]]` tables.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::Source;
use super::environment::Environment;
use super::found::Found;
use super::names::{
    CLASSES_MAX, NAME_CHARS_MAX, are_class_names, is_host, is_plain_text, is_plain_text_or_empty,
    is_source_name, is_text_block, is_topic,
};
use super::secrets;
use super::section::Section;
use super::sources::SOURCES_MAX;
use crate::alert::settings::{
    Action, Alert, AlertSettings, CommandAction, EmailAction, Escalation, Hours, MqttAction,
    NtfyAction, SmtpSettings, SmtpTls, Template, Trigger, Url, WebhookAction, is_address,
};
use crate::publish::settings::{Broker, PublishSettings};

/// Alerts at once.
pub const ALERTS_MAX: usize = 64;

/// Stretches of hours of one alert.
const SCHEDULE_MAX: usize = 32;
/// Addresses of one mail.
const ADDRESSES_MAX: usize = 16;
/// Arguments of a command.
const ARGUMENTS_MAX: usize = 256;
/// Characters of an argument, a template, an address.
const TEXT_CHARS_MAX: usize = 4096;

const DAY_S: f32 = 86_400.0;
const HOUR_S: f32 = 3_600.0;

/// The keys that make an action each.
const ACTIONS: [&str; 5] = ["command", "webhook", "mqtt_topic", "ntfy", "email_to"];

/// The systemd credential that holds the mail server's password.
const CREDENTIAL: &str = "smtp_password";
/// Ports for mail: with a connection that becomes secret, and with one that is from the beginning.
const PORT: u16 = 587;
const PORT_WRAPPED: u16 = 465;

/// What `tls` may say.
pub(super) const SMTP_TLS: [(&str, SmtpTls); 3] =
    [("starttls", SmtpTls::Starttls), ("wrapped", SmtpTls::Wrapped), ("none", SmtpTls::None)];

/// What alerts may refer to.
pub(super) struct Company<'a> {
    pub node: &'a Arc<str>,
    pub sources: &'a [Source],
    pub publish: &'a PublishSettings,
    pub environment: &'a Environment,
    /// The configuration file's.
    pub folder: Option<&'a Path>,
}

/// Reads everything about alerts. Alerts with problems are left out of the result.
pub(super) fn check(root: &mut Section, company: &Company<'_>, found: &mut Found) -> AlertSettings {
    let mut common = root.subsection("alerts");
    let is_zone = |name: &str| TimeZone::get(name).is_ok();
    let zone_rule =
        "a name in the system's list of time zones (package tzdata), as \"Europe/Berlin\"";
    let zone_name = common.text("time_zone", "the system's", zone_rule, is_zone);
    let zone = zone_name.as_deref().and_then(|name| TimeZone::get(name).ok());
    let quiet_rule = "hours, as in \"22:00-07:00\"";
    let is_hours = |text: &str| text.parse::<Hours>().is_ok();
    let quiet_hours = common.text("quiet_hours", "-", quiet_rule, is_hours);
    let smtp = smtp(&mut common, company, found);
    common.finish(found);

    let mut settings = AlertSettings {
        node: Arc::clone(company.node),
        zone_name,
        zone: zone.unwrap_or_else(TimeZone::system),
        quiet_hours: quiet_hours.and_then(|text| text.parse().ok()),
        smtp,
        alerts: Vec::new(),
    };
    let mut keys = Found::default();
    alert(Section::example("alert[]"), company, &settings, &mut keys, &mut BTreeSet::new());
    keys.finish_example(found);
    let sections = root.tables("alert", ALERTS_MAX).unwrap_or_default();
    let mut names = BTreeSet::new();
    let read =
        sections.into_iter().map(|section| alert(section, company, &settings, found, &mut names));
    let read: Vec<Option<(Section, Alert)>> = read.collect();
    let is_whole = read.iter().all(Option::is_some);
    let mut read: Vec<(Section, Alert)> = read.into_iter().flatten().collect();
    if is_whole {
        check_escalations(&mut read);
    }
    for (section, alert) in read {
        section.finish(found);
        settings.alerts.push(alert);
    }
    settings
}

fn smtp(common: &mut Section, company: &Company<'_>, found: &mut Found) -> Option<SmtpSettings> {
    let mut smtp = common.subsection("smtp");
    let host = smtp.text("host", "-", "a host name or address alone, without port", is_host);
    let port = smtp.integer("port", "587, with tls = \"wrapped\" 465", 1..=u16::MAX);
    let tls = smtp.choice("tls", "starttls", &SMTP_TLS).unwrap_or(SmtpTls::Starttls);
    let user_rule = "1 to 256 printable characters";
    let user = smtp.text("user", "-", user_rule, |text| is_plain_text(text, 256));
    let password_file = smtp.path("password_file", company.folder);
    let address_rule = "an address alone, as me@example.org, in ASCII";
    let from = smtp.text("from", "-", address_rule, is_address);
    if host.is_none() {
        for key in ["port", "tls", "user", "password_file", "from"] {
            if smtp.is_set(key) {
                smtp.wrong(key, "only with alerts.smtp.host");
            }
        }
        smtp.finish(found);
        return None;
    }
    let has_user = user.is_some();
    let environment = company.environment;
    let password = secrets::password(
        &mut smtp,
        "alerts.smtp",
        has_user,
        password_file,
        CREDENTIAL,
        environment,
    );
    if has_user && password.is_none() && !smtp.is_set("password_file") {
        smtp.wrong(
            "user",
            "needs alerts.smtp.password_file beside it, or the systemd credential smtp_password",
        );
    }
    let is_here = matches!(host.as_deref(), Some("localhost" | "127.0.0.1" | "::1"));
    if has_user && tls == SmtpTls::None && !is_here {
        smtp.wrong("tls", "would send the password in the open; use \"starttls\" or \"wrapped\"");
    }
    if from.is_none() {
        smtp.wrong("from", format!("needed with alerts.smtp.host: {address_rule}"));
    }
    smtp.finish(found);
    let port = port.unwrap_or(if tls == SmtpTls::Wrapped { PORT_WRAPPED } else { PORT });
    Some(SmtpSettings { host: host?, port, tls, user, password, from: from? })
}

/// One table. It comes back unfinished, so that what concerns several can still be said of it.
fn alert(
    mut section: Section,
    company: &Company<'_>,
    settings: &AlertSettings,
    found: &mut Found,
    names: &mut BTreeSet<String>,
) -> Option<(Section, Alert)> {
    let name = name(&mut section, names);
    let trigger = trigger(&mut section);
    let sources = sources(&mut section, company, found);
    let min_duration_s = section.number("min_duration_s", 0.0, 0.0..=HOUR_S);
    let count = section.integer("count", 1, 1..=1_000).unwrap_or(1);
    let within_s = section.number("within_s", 60.0, 1.0..=DAY_S);
    let schedule = schedule(&mut section);
    let in_quiet_hours = section.boolean("in_quiet_hours", false);
    let cooldown_s = section.number("cooldown_s", 300.0, 0.0..=DAY_S);
    let escalation = escalation(&mut section);
    if count == 1 && section.is_set("within_s") {
        section.wrong("within_s", "only with a `count` of more than 1");
    }
    check_only_escalated(&mut section, &trigger);
    let actions = actions(&mut section, company, settings);
    let title = template(&mut section, "title", "{class} at {source}");
    let said = "{class} was heard at {source} at {start_local}, score {score}";
    let message = template(&mut section, "message", said);
    let speaks = section.is_written("ntfy") || section.is_written("email_to");
    needs(&mut section, &["title", "message"], speaks, "ntfy or email_to");
    if !ACTIONS.iter().any(|key| section.is_written(key)) {
        let all = ACTIONS.join(", ");
        section.wrong_as_a_whole(format!("needs an action: one or more of {all}"));
    }
    let alert = || {
        Some(Alert {
            name: name?.into(),
            trigger,
            sources,
            min_duration_s,
            count,
            within_s,
            schedule,
            in_quiet_hours,
            cooldown_s,
            escalation,
            title: title?,
            message: message?,
            actions,
        })
    };
    match alert() {
        Some(alert) => Some((section, alert)),
        None => {
            section.finish(found);
            None
        }
    }
}

fn name(section: &mut Section, names: &mut BTreeSet<String>) -> Option<String> {
    let allowed = format!("1 to {NAME_CHARS_MAX} of a-z, 0-9, `_` and `-`");
    let is_written = section.has("name");
    let Some(name) = section.text("name", "-", &allowed, is_source_name) else {
        if !is_written {
            section.wrong("name", format!("each alert needs a name: {allowed}"));
        }
        return None;
    };
    section.rename(format!("alert.{name}"));
    if !names.insert(name.clone()) {
        section.wrong("name", "another alert has this name; each needs its own");
    }
    Some(name)
}

fn trigger(section: &mut Section) -> Trigger {
    let allowed = format!("a list of at most {CLASSES_MAX} different class names");
    let are_names = |names: &[String]| are_class_names(names, CLASSES_MAX);
    let classes = section.list("classes", "[]", &allowed, are_names).unwrap_or_default();
    let min_score = section.number("min_score", 0.0, 0.0..=1.0);
    let over_dbfs = section.number_or_none("level_over_dbfs", -120.0..=0.0);
    if section.boolean("only_escalated", false) {
        return Trigger::Escalation;
    }
    let Some(over_dbfs) = over_dbfs else { return Trigger::Sound { classes, min_score } };
    for key in ["classes", "min_score"] {
        if section.is_set(key) {
            section.wrong(key, "only without level_over_dbfs, which acts whatever the class");
        }
    }
    Trigger::Level { over_dbfs }
}

fn sources(section: &mut Section, company: &Company<'_>, found: &Found) -> Vec<String> {
    let allowed = format!("a list of at most {SOURCES_MAX} different names of sources");
    let are_names = |names: &[String]| are_class_names(names, SOURCES_MAX);
    let sources = section.list("sources", "[]", &allowed, are_names).unwrap_or_default();
    let is_known = |name: &String| company.sources.iter().any(|s| *s.capture.name == **name);
    // A source that has a problem of its own is not among them.
    if let Some(unknown) = sources.iter().find(|name| !is_known(name))
        && found.problems.is_empty()
    {
        let known: Vec<&str> = company.sources.iter().map(|s| &*s.capture.name).collect();
        let known = known.join(", ");
        section.wrong("sources", format!("no source has the name {unknown:?}; there are: {known}"));
    }
    sources
}

fn schedule(section: &mut Section) -> Vec<Hours> {
    let allowed = format!(
        "a list of at most {SCHEDULE_MAX} stretches of hours, as in \"mon-fri 08:00-18:00\", \
         \"sat,sun 10:00-24:00\" or \"22:00-07:00\""
    );
    let are_hours = |texts: &[String]| {
        texts.len() <= SCHEDULE_MAX && texts.iter().all(|text| text.parse::<Hours>().is_ok())
    };
    let texts = section.list("schedule", "[]", &allowed, are_hours).unwrap_or_default();
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn escalation(section: &mut Section) -> Option<Escalation> {
    let after_s = section.number_or_none("escalate_after_s", 1.0..=DAY_S);
    let to =
        section.text("escalate_to", "the alert itself", "the name of an alert", is_source_name);
    if to.is_some() && after_s.is_none() {
        section.wrong("escalate_to", "only with escalate_after_s");
    }
    Some(Escalation { after_s: after_s?, to: to.map(Into::into) })
}

/// An alert that waits for nothing itself has no use for what says when.
fn check_only_escalated(section: &mut Section, trigger: &Trigger) {
    const KEYS: [&str; 12] = [
        "classes",
        "sources",
        "min_score",
        "min_duration_s",
        "count",
        "within_s",
        "level_over_dbfs",
        "schedule",
        "in_quiet_hours",
        "cooldown_s",
        "escalate_after_s",
        "escalate_to",
    ];
    if *trigger != Trigger::Escalation {
        return;
    }
    for key in KEYS {
        if section.is_set(key) {
            section
                .wrong(key, "has no effect with only_escalated: the alert that escalates decides");
        }
    }
}

/// Names in `escalate_to` are names of alerts, and somebody escalates to those that only wait for it.
fn check_escalations(read: &mut [(Section, Alert)]) {
    let names: BTreeSet<Arc<str>> = read.iter().map(|(_, alert)| Arc::clone(&alert.name)).collect();
    let target = |alert: &Alert| alert.escalation.as_ref().and_then(|one| one.to.clone());
    let targets: BTreeSet<Arc<str>> = read.iter().filter_map(|(_, alert)| target(alert)).collect();
    for (section, alert) in read {
        if target(alert).is_some_and(|name| !names.contains(&name)) {
            section.wrong("escalate_to", "no alert has this name");
        }
        if alert.trigger == Trigger::Escalation && !targets.contains(&alert.name) {
            section.wrong("only_escalated", "no other alert names it in escalate_to");
        }
    }
}

fn actions(section: &mut Section, company: &Company<'_>, settings: &AlertSettings) -> Vec<Action> {
    let actions = [
        command(section),
        webhook(section, company.folder),
        mqtt(section, company.publish),
        ntfy(section, company.folder),
        email(section, settings.smtp.is_some()),
    ];
    actions.into_iter().flatten().collect()
}

fn command(section: &mut Section) -> Option<Action> {
    let allowed = format!(
        "a list of the program and its arguments: 1 to {ARGUMENTS_MAX} texts of at most {TEXT_CHARS_MAX} \
         printable characters, the first not empty"
    );
    let argv = section.list("command", "-", &allowed, |argv| {
        let has_program = argv.first().is_some_and(|program| !program.is_empty());
        let is_argument = |text: &String| {
            text.is_empty()
                || is_plain_text_or_empty(text, TEXT_CHARS_MAX)
                || is_text_block(text, TEXT_CHARS_MAX)
        };
        has_program && argv.len() <= ARGUMENTS_MAX && argv.iter().all(is_argument)
    });
    let timeout_s = section.integer("command_timeout_s", 10, 1..=300).unwrap_or(10);
    let is_there = section.is_written("command");
    needs(section, &["command_timeout_s"], is_there, "command");
    let mut argv = argv?.into_iter();
    let program = argv.next()?;
    let mut arguments = Vec::new();
    for text in argv {
        match text.parse::<Template>() {
            Ok(argument) => arguments.push(argument),
            Err(error) => {
                section.wrong("command", error.to_string());
                return None;
            }
        }
    }
    Some(Action::Command(CommandAction { program, arguments, timeout_s }))
}

fn webhook(section: &mut Section, folder: Option<&Path>) -> Option<Action> {
    let url = url(section, "webhook");
    let body = optional_template(section, "webhook_body");
    let secret = secrets::from_file(section, "webhook_secret_file", folder);
    let is_there = section.is_written("webhook");
    needs(section, &["webhook_body", "webhook_secret_file"], is_there, "webhook");
    Some(Action::Webhook(WebhookAction { url: url?, body, secret }))
}

fn mqtt(section: &mut Section, publish: &PublishSettings) -> Option<Action> {
    let allowed =
        "1 to 256 characters: levels with `/` between them, without `+`, `#` or a leading `$`";
    let topic = section.text("mqtt_topic", "-", allowed, is_topic);
    let payload = optional_template(section, "mqtt_payload");
    let retain = section.boolean("mqtt_retain", false);
    if topic.is_some() && publish.broker == Broker::Off {
        section.wrong("mqtt_topic", "only with mqtt.enabled");
    }
    let is_there = section.is_written("mqtt_topic");
    needs(section, &["mqtt_payload", "mqtt_retain"], is_there, "mqtt_topic");
    Some(Action::Mqtt(MqttAction { topic: topic?.into(), payload, retain }))
}

fn ntfy(section: &mut Section, folder: Option<&Path>) -> Option<Action> {
    let url = url(section, "ntfy");
    let priority = section.integer("ntfy_priority", 4, 1..=5).unwrap_or(4);
    let token = secrets::from_file(section, "ntfy_token_file", folder);
    let is_there = section.is_written("ntfy");
    needs(section, &["ntfy_priority", "ntfy_token_file"], is_there, "ntfy");
    Some(Action::Ntfy(NtfyAction { url: url?, priority, token }))
}

fn email(section: &mut Section, has_smtp: bool) -> Option<Action> {
    let allowed = format!("a list of 1 to {ADDRESSES_MAX} addresses, each as me@example.org");
    let to = section.list("email_to", "-", &allowed, |list| {
        (1..=ADDRESSES_MAX).contains(&list.len()) && list.iter().all(|text| is_address(text))
    })?;
    if !has_smtp {
        section.wrong("email_to", "needs alerts.smtp.host and alerts.smtp.from");
    }
    Some(Action::Email(EmailAction { to }))
}

fn url(section: &mut Section, key: &'static str) -> Option<Url> {
    let allowed = "an address that begins with `https://` or `http://`, without user and password";
    let is_url = |text: &str| is_plain_text(text, TEXT_CHARS_MAX) && Url::parse(text).is_some();
    section.text(key, "-", allowed, is_url).and_then(|text| Url::parse(&text))
}

/// What is left out when it is not written.
fn optional_template(section: &mut Section, key: &'static str) -> Option<Template> {
    parse_template(section, key, "the notice as JSON")?.ok()
}

/// What has a default. `None`: it is written, and wrong.
fn template(section: &mut Section, key: &'static str, default: &str) -> Option<Template> {
    match parse_template(section, key, &super::raw::quoted(default)) {
        Some(written) => written.ok(),
        None => default.parse().ok(),
    }
}

/// `None`: it is not written. An error has been reported.
fn parse_template(
    section: &mut Section,
    key: &'static str,
    default: &str,
) -> Option<Result<Template, ()>> {
    let allowed =
        format!("a text of 1 to {TEXT_CHARS_MAX} characters, with placeholders as {{class}}");
    let is_text = |text: &str| is_text_block(text, TEXT_CHARS_MAX);
    let text = section.text(key, default, &allowed, is_text)?;
    let parsed = text.parse::<Template>();
    Some(parsed.map_err(|error| section.wrong(key, error.to_string())))
}

/// Reports keys that say nothing without another one.
fn needs(section: &mut Section, keys: &[&str], is_there: bool, owner: &str) {
    for key in keys {
        if section.is_set(key) && !is_there {
            section.wrong(key, format!("only with {owner}"));
        }
    }
}
