//! The model file: an ONNX graph, and beside it in `metadata_props` everything that is needed to
//! use it. One file is enough to run.

use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

use super::runner::{Network, probe_image};

/// The version of the metadata contract that this program reads and writes.
const FORMAT: &str = "1";
/// Prefix of all our keys in `metadata_props`.
pub(super) const PREFIX: &str = "hearken.";
/// A larger file is refused before it is parsed.
const FILE_BYTES_MAX: usize = 512 << 20;
/// More outputs are refused.
const OUTPUTS_MAX: usize = 10_000;
/// How far an output of the self-test may be from the stored one, relative to 1 + its size.
const SELF_TEST_TOLERANCE: f32 = 0.01;

/// What a model file says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// What the outputs are for: `sound` or `colour`.
    pub task: String,
    /// How an input becomes the 227x227 image, in the canonical text of the task's own module.
    pub recipe: String,
    /// SHA-256 of that text.
    pub recipe_hash: String,
    /// Names of the outputs, in order: classes or responses.
    pub outputs: Vec<String>,
    pub activation: Activation,
    /// Default decision rules, in the form of the task's own module.
    pub decision: Value,
    /// For people: name, version, licence, data, training, metrics.
    pub card: Value,
}

/// What turns the network's raw outputs into scores or values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// One class at a time.
    Softmax,
    /// Any number of classes at a time.
    Sigmoid,
    /// Values as they are (regression).
    Linear,
}

/// Why a file is no model that this program can run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("not an ONNX file, or a damaged one: {0}")]
    NotOnnx(String),
    #[error(
        "the ONNX file has no Hearken metadata (`{PREFIX}{0}` is missing); add it with `hearken model wrap`"
    )]
    NoMetadata(&'static str),
    #[error("the model's metadata `{PREFIX}{key}` is wrong: {why}")]
    Metadata { key: &'static str, why: String },
    #[error("the model is damaged: its weights do not match their digest")]
    Damaged,
    #[error("the network has {what} {found}, expected {expected}")]
    Shape { what: &'static str, found: String, expected: String },
    #[error("the network can't be run: {0}")]
    Unrunnable(String),
    #[error(
        "the network computes wrong values on this machine: output {output} of the self-test is {found}, expected {expected}"
    )]
    SelfTest { output: usize, found: f32, expected: f32 },
}

/// A model file that was read and checked, and is ready to become a [`Network`].
pub struct Artifact {
    pub metadata: Metadata,
    /// First 16 hexadecimal digits of the file's SHA-256: names the model in events.
    pub digest: String,
    proto: ModelProto,
    self_test: Vec<f32>,
}

impl Artifact {
    /// Reads a model file: its graph, its metadata and the weights' digest are checked.
    pub fn read(bytes: &[u8]) -> Result<Self, ModelError> {
        let proto = decode(bytes)?;
        let metadata = read_metadata(&proto)?;
        if property(&proto, "weights_digest")? != weights_digest(&proto) {
            return Err(ModelError::Damaged);
        }
        let self_test: Vec<f32> = json(&proto, "self_test")?;
        if self_test.len() != metadata.outputs.len() {
            let why = format!("{} values for {} outputs", self_test.len(), metadata.outputs.len());
            return Err(ModelError::Metadata { key: "self_test", why });
        }
        let mut digest = hex(&Sha256::digest(bytes));
        digest.truncate(16);
        Ok(Self { metadata, digest, proto, self_test })
    }

    /// Prepares the network and proves it: the outputs for a stored image must be the stored ones
    /// (an engine that computes a graph wrongly is known to happen).
    pub fn into_network(self) -> Result<Network, ModelError> {
        let network = Network::new(&self.proto, self.metadata.outputs.len())?;
        let image = probe_image(network.channels());
        let found = network.session()?.run(image.into_iter())?;
        for (output, (&found, &expected)) in found.iter().zip(&self.self_test).enumerate() {
            let close = (found - expected).abs() <= SELF_TEST_TOLERANCE * (1.0 + expected.abs());
            // Written so that NaN is not close either.
            if !close {
                return Err(ModelError::SelfTest { output, found, expected });
            }
        }
        Ok(network)
    }
}

/// Adds metadata to a plain ONNX file (or replaces it), after a trial run: one input
/// `[1, 1, 227, 227]` or `[1, 3, 227, 227]` of f32 pixels 0..255, one output of `[1, outputs]`.
pub fn wrap(onnx: &[u8], metadata: &Metadata) -> Result<Vec<u8>, ModelError> {
    let mut proto = decode(onnx)?;
    let network = Network::new(&proto, metadata.outputs.len())?;
    let image = probe_image(network.channels());
    let self_test = network.session()?.run(image.into_iter())?;
    let text = |value: Value| value.to_string();
    let entries = [
        ("format", FORMAT.to_owned()),
        ("task", metadata.task.clone()),
        ("recipe", metadata.recipe.clone()),
        ("recipe_hash", metadata.recipe_hash.clone()),
        ("outputs", text(metadata.outputs.clone().into())),
        ("activation", text(serde_json::json!(metadata.activation))),
        ("decision", text(metadata.decision.clone())),
        ("card", text(metadata.card.clone())),
        ("weights_digest", weights_digest(&proto)),
        ("self_test", text(self_test.into())),
    ];
    proto.metadata_props.retain(|entry| !entry.key.starts_with(PREFIX));
    proto.metadata_props.extend(
        entries
            .into_iter()
            .map(|(key, value)| StringStringEntryProto { key: format!("{PREFIX}{key}"), value }),
    );
    let wrapped = proto.encode_to_vec();
    Artifact::read(&wrapped)?;
    Ok(wrapped)
}

fn decode(bytes: &[u8]) -> Result<ModelProto, ModelError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ModelError::NotOnnx(format!("{} bytes are too many", bytes.len())));
    }
    let proto =
        ModelProto::decode(bytes).map_err(|error| ModelError::NotOnnx(error.to_string()))?;
    match &proto.graph {
        Some(graph) if !graph.node.is_empty() => Ok(proto),
        _ => Err(ModelError::NotOnnx("it holds no graph".to_owned())),
    }
}

fn read_metadata(proto: &ModelProto) -> Result<Metadata, ModelError> {
    let wrong = |key, why: String| Err(ModelError::Metadata { key, why });
    let format = property(proto, "format")?;
    if format != FORMAT {
        return wrong("format", format!("`{format}`, this program reads `{FORMAT}`"));
    }
    let recipe = property(proto, "recipe")?.to_owned();
    let recipe_hash = property(proto, "recipe_hash")?.to_owned();
    if hex(&Sha256::digest(&recipe)) != recipe_hash {
        return wrong("recipe_hash", "it does not match the recipe".to_owned());
    }
    let outputs: Vec<String> = json(proto, "outputs")?;
    if outputs.is_empty() || outputs.len() > OUTPUTS_MAX {
        return wrong(
            "outputs",
            format!("{} names, allowed are 1 to {OUTPUTS_MAX}", outputs.len()),
        );
    }
    let bad_name =
        |name: &&String| name.is_empty() || name.len() > 64 || name.chars().any(|c| c.is_control());
    if let Some(name) = outputs.iter().find(bad_name) {
        return wrong("outputs", format!("{name:?} is no name of 1 to 64 printable characters"));
    }
    let mut sorted: Vec<&String> = outputs.iter().collect();
    sorted.sort();
    if let Some(pair) = sorted.windows(2).find(|pair| pair.first() == pair.last()) {
        return wrong("outputs", format!("{:?} occurs twice", pair.first()));
    }
    Ok(Metadata {
        task: property(proto, "task")?.to_owned(),
        recipe,
        recipe_hash,
        outputs,
        activation: json(proto, "activation")?,
        decision: json(proto, "decision")?,
        card: json(proto, "card")?,
    })
}

fn property<'a>(proto: &'a ModelProto, key: &'static str) -> Result<&'a str, ModelError> {
    proto
        .metadata_props
        .iter()
        .find(|entry| entry.key.strip_prefix(PREFIX) == Some(key))
        .map(|entry| entry.value.as_str())
        .ok_or(ModelError::NoMetadata(key))
}

fn json<T: serde::de::DeserializeOwned>(
    proto: &ModelProto,
    key: &'static str,
) -> Result<T, ModelError> {
    serde_json::from_str(property(proto, key)?)
        .map_err(|error| ModelError::Metadata { key, why: error.to_string() })
}

/// SHA-256 of the encoded graph: weights and structure, not the metadata.
fn weights_digest(proto: &ModelProto) -> String {
    let graph = proto.graph.as_ref().map(Message::encode_to_vec).unwrap_or_default();
    hex(&Sha256::digest(graph))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHIPPED: &[u8] = include_bytes!("../../models/sound.onnx");

    fn reason(bytes: &[u8]) -> String {
        match Artifact::read(bytes) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    /// The shipped file with one metadata entry changed, or removed.
    fn altered(key: &str, value: Option<&str>) -> Vec<u8> {
        let mut proto = ModelProto::decode(SHIPPED).unwrap();
        let key = format!("{PREFIX}{key}");
        proto.metadata_props.retain(|entry| entry.key != key || value.is_some());
        for entry in &mut proto.metadata_props {
            if entry.key == key {
                entry.value = value.unwrap_or_default().to_owned();
            }
        }
        proto.encode_to_vec()
    }

    #[test]
    fn the_shipped_model_passes_its_self_test() {
        let artifact = Artifact::read(SHIPPED).unwrap();
        assert_eq!(artifact.metadata.task, "sound");
        assert_eq!(artifact.digest.len(), 16);
        artifact.into_network().unwrap();
    }

    #[test]
    fn missing_and_wrong_metadata_is_named() {
        for key in ["format", "task", "recipe", "outputs", "activation", "decision", "self_test"] {
            assert!(reason(&altered(key, None)).contains(key), "{key}");
        }
        for (key, value) in [
            ("format", "99"),
            ("recipe", "{}"),
            ("outputs", "[]"),
            ("outputs", r#"["a", "a"]"#),
            ("outputs", r#"["a\n"]"#),
            ("outputs", "siren"),
            ("activation", r#""relu""#),
            ("self_test", "[1.0]"),
            ("card", "{"),
        ] {
            let error = reason(&altered(key, Some(value)));
            assert!(error.contains(key), "{key} = {value}: {error}");
        }
    }

    #[test]
    fn changed_weights_are_found() {
        let mut proto = ModelProto::decode(SHIPPED).unwrap();
        let graph = proto.graph.as_mut().unwrap();
        let weights =
            graph.initializer.iter_mut().find(|tensor| tensor.raw_data.len() > 1_000).unwrap();
        weights.raw_data[500] ^= 1;
        assert!(matches!(Artifact::read(&proto.encode_to_vec()), Err(ModelError::Damaged)));
    }

    #[test]
    fn an_engine_that_computes_wrongly_is_found() {
        let values = vec![0.0_f32; Artifact::read(SHIPPED).unwrap().metadata.outputs.len()];
        let text = serde_json::to_string(&values).unwrap();
        let artifact = Artifact::read(&altered("self_test", Some(&text))).unwrap();
        assert!(matches!(artifact.into_network(), Err(ModelError::SelfTest { .. })));
    }

    #[test]
    fn no_onnx_is_said_so() {
        for bytes in [&b""[..], b"RIFF....WAVE", &SHIPPED[..SHIPPED.len() / 2]] {
            assert!(reason(bytes).contains("not an ONNX file"), "{}", reason(bytes));
        }
    }

    proptest! {
        #![proptest_config(crate::testing::cases(64))]

        #[test]
        fn damage_anywhere_in_the_metadata_never_panics(
            key in prop::sample::select(vec![
                "format", "recipe", "recipe_hash", "outputs", "activation", "decision", "card",
            ]),
            value in "\\PC{0,60}",
        ) {
            let _ = Artifact::read(&altered(key, Some(&value)));
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Artifact::read(&bytes).is_err());
        }
    }
}
