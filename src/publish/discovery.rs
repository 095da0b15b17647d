//! Home Assistant's device-based MQTT discovery: one retained message that says what this device
//! consists of. Pure. Keys as in <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Roster;
use super::payload::{OFF, OFFLINE, ON, ONLINE, Topics, topic_level};

/// The entities of the device by their key in `components`.
pub type Components = BTreeMap<String, Value>;

/// Components that are no more, with their platform: Home Assistant removes a component when it
/// is announced with nothing but its platform.
pub type Gone = BTreeMap<String, &'static str>;

const BINARY_SENSOR: &str = "binary_sensor";
const SENSOR: &str = "sensor";
const SWITCH: &str = "switch";

/// A binary sensor for each source and class, a level sensor and a switch for each source, and the
/// connectivity of the node.
pub fn components(topics: &Topics, roster: &Roster) -> Components {
    let mut all = Components::new();
    all.insert("connectivity".to_owned(), connectivity(topics));
    for source in &roster.sources {
        for class in &roster.classes {
            let key = format!("{source}_sound_{}", topic_level(class));
            all.insert(key, sound(topics, source, class));
        }
        all.insert(format!("{source}_level"), level(topics, source));
        all.insert(format!("{source}_listening"), listening(topics, source));
    }
    all
}

/// The components of `old` that `new` lacks.
pub fn gone(old: &Components, new: &Components) -> Gone {
    old.iter()
        .filter(|(key, _)| !new.contains_key(*key))
        .map(|(key, component)| (key.clone(), platform(component)))
        .collect()
}

/// The discovery message. With `gone` it is the one that removes components; Home Assistant asks
/// for one without them afterwards.
pub fn config(topics: &Topics, roster: &Roster, components: &Components, gone: &Gone) -> Vec<u8> {
    let mut all = components.clone();
    for (key, platform) in gone {
        all.insert(key.clone(), json!({ "platform": platform }));
    }
    let node = topics.node();
    let config = json!({
        "device": {
            "identifiers": [format!("hearken_{node}")],
            "name": format!("Hearken {node}"),
            "manufacturer": "Hearken",
            "model": &*roster.model,
            "sw_version": roster.version,
        },
        "origin": { "name": "hearken", "sw_version": roster.version },
        "qos": 1,
        "components": all,
    });
    config.to_string().into_bytes()
}

/// The components of a discovery message, as an earlier run may have left it; none of one that
/// can't be read.
pub fn components_of(config: &[u8]) -> Components {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let components = config.get("components").and_then(Value::as_object);
    components.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn connectivity(topics: &Topics) -> Value {
    // Has no availability of its own: it must be able to say "disconnected".
    json!({
        "platform": BINARY_SENSOR,
        "unique_id": format!("hearken_{}_connectivity", topics.node()),
        "name": "Connectivity",
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "state_topic": &*topics.available(),
        "payload_on": ONLINE,
        "payload_off": OFFLINE,
    })
}

fn sound(topics: &Topics, source: &str, class: &str) -> Value {
    json!({
        "platform": BINARY_SENSOR,
        "unique_id": unique_id(topics, source, &format!("sound_{}", topic_level(class))),
        "name": label(source, class),
        "device_class": "sound",
        "state_topic": &*topics.sound(source, class),
        "payload_on": ON,
        "payload_off": OFF,
        "availability_topic": &*topics.available(),
    })
}

fn level(topics: &Topics, source: &str) -> Value {
    // No device class: Home Assistant's `sound_pressure` means dB of pressure, not of full scale.
    json!({
        "platform": SENSOR,
        "unique_id": unique_id(topics, source, "level"),
        "name": label(source, "level"),
        "icon": "mdi:waveform",
        "state_topic": &*topics.level(source),
        "value_template": "{{ value_json.level_dbfs }}",
        "unit_of_measurement": "dBFS",
        "state_class": "measurement",
        "suggested_display_precision": 1,
        "availability_topic": &*topics.available(),
    })
}

fn listening(topics: &Topics, source: &str) -> Value {
    // A status that is cleared has no JSON, and may come before the removal of the switch.
    let template = "{% if value_json is defined %}{{ 'OFF' if value_json.state == 'off' else 'ON' }}\
                    {% endif %}";
    json!({
        "platform": SWITCH,
        "unique_id": unique_id(topics, source, "listening"),
        "name": label(source, "listening"),
        "icon": "mdi:ear-hearing",
        "command_topic": &*topics.set(source),
        "payload_on": ON,
        "payload_off": OFF,
        "state_topic": &*topics.status(source),
        "value_template": template,
        "state_on": ON,
        "state_off": OFF,
        "availability_topic": &*topics.available(),
    })
}

fn unique_id(topics: &Topics, source: &str, tail: &str) -> String {
    format!("hearken_{}_{source}_{tail}", topics.node())
}

/// A name for people: "front_door", "Dog_bark" become "Front door dog bark".
fn label(source: &str, what: &str) -> String {
    let text = format!("{source} {what}").replace('_', " ").to_lowercase();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => text,
    }
}

fn platform(component: &Value) -> &'static str {
    match component.get("platform").and_then(Value::as_str) {
        Some(SWITCH) => SWITCH,
        Some(SENSOR) => SENSOR,
        _ => BINARY_SENSOR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(sources: &[&str], classes: &[&str]) -> Roster {
        Roster {
            sources: sources.iter().map(|&name| name.into()).collect(),
            classes: classes.iter().map(|&name| name.into()).collect(),
            model: "first_sound".into(),
            version: "0.1.0",
        }
    }

    fn topics() -> Topics {
        Topics::new("hearken", "attic".into(), Some("homeassistant".to_owned()))
    }

    fn parsed(roster: &Roster, gone: &Gone) -> Value {
        let components = components(&topics(), roster);
        let bytes = config(&topics(), roster, &components, gone);
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn a_device_has_what_home_assistant_requires() {
        let config = parsed(&roster(&["door", "yard"], &["Dog bark", "Siren"]), &Gone::new());
        assert_eq!(config["device"]["identifiers"], json!(["hearken_attic"]));
        assert_eq!(config["origin"]["name"], "hearken");
        let components = config["components"].as_object().expect("a map");
        assert_eq!(components.len(), 1 + 2 * (2 + 2));
        let mut ids: Vec<&str> = components
            .values()
            .map(|component| component["unique_id"].as_str().expect("each has one"))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), components.len(), "unique");
        for component in components.values() {
            assert!(component["state_topic"].is_string() && component["platform"].is_string());
        }
    }

    #[test]
    fn entities_read_the_topics_that_are_published() {
        let config = parsed(&roster(&["door"], &["Dog bark"]), &Gone::new());
        let dog = &config["components"]["door_sound_dog_bark"];
        assert_eq!(dog["state_topic"], "hearken/attic/door/sound/dog_bark");
        assert_eq!(dog["device_class"], "sound");
        assert_eq!(dog["name"], "Door dog bark");
        assert_eq!(dog["availability_topic"], "hearken/attic/available");
        let level = &config["components"]["door_level"];
        assert_eq!(level["state_class"], "measurement");
        assert_eq!(level["unit_of_measurement"], "dBFS");
        let switch = &config["components"]["door_listening"];
        assert_eq!(switch["command_topic"], "hearken/attic/door/set");
        assert_eq!(switch["state_topic"], "hearken/attic/door/status");
        let link = &config["components"]["connectivity"];
        assert_eq!(link["entity_category"], "diagnostic");
        assert_eq!(link.get("availability_topic"), None);
    }

    #[test]
    fn an_earlier_message_can_be_read_back() {
        let roster = roster(&["door"], &["Dog"]);
        let all = components(&topics(), &roster);
        assert_eq!(components_of(&config(&topics(), &roster, &all, &Gone::new())), all);
        for broken in ["", "[]", "{\"components\": 1}", "{"] {
            assert!(components_of(broken.as_bytes()).is_empty());
        }
    }

    #[test]
    fn what_goes_is_announced_with_its_platform_only() {
        let old = components(&topics(), &roster(&["door", "yard"], &["Dog"]));
        let new_roster = roster(&["door"], &["Dog"]);
        let gone = gone(&old, &components(&topics(), &new_roster));
        assert_eq!(gone.len(), 3);
        let config = parsed(&new_roster, &gone);
        assert_eq!(config["components"]["yard_level"], json!({ "platform": "sensor" }));
        assert_eq!(config["components"]["yard_listening"], json!({ "platform": "switch" }));
        let sound = &config["components"]["yard_sound_dog"];
        assert_eq!(sound, &json!({ "platform": "binary_sensor" }));
        assert!(config["components"]["door_level"]["unique_id"].is_string());
    }
}
