//! The colour model in use: a photo's shift is estimated on its 227x227 view and undone at full
//! size. The one place where `network`, `picture` and `colour` meet.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::thread;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::colour::{Baseline, Ridge, Shift, ShiftModel, Undo, statistics};
use crate::network::{Activation, Artifact, Metadata, ModelError, Network, Session};
use crate::picture::{Format, Photo, PhotoError, Samples, View};

/// The model that this program was built with.
const EMBEDDED: &[u8] = include_bytes!("../models/colour.onnx");
/// A larger shift makes no sense: full scale, or a factor of a thousand.
const OFFSET_MAX: f64 = 1.0;
const GAIN_MAX: f64 = 1_000.0;

/// How a photo becomes the image of a colour network, in the canonical text of a model file. There
/// is one way; only what the outputs mean differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColourRecipe {
    /// Always `rgb-227-triangle`: red, green and blue of 0 to 255, upright, brought to 227x227 by a
    /// triangle filter.
    view: ViewName,
    pub shift: ShiftModel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum ViewName {
    #[serde(rename = "rgb-227-triangle")]
    Rgb227Triangle,
}

/// What a model file says of its use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColourRules {
    /// A shift of less than this size ([`Shift::size`]) is left alone.
    pub min_shift: f64,
    /// The regression behind [`Method::Statistics`].
    pub statistics: Ridge,
}

/// Who estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Network,
    /// The ridge regression in the model file.
    Statistics,
    Baseline(Baseline),
}

/// A loaded colour model; cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct ColourModel {
    network: Network,
    rules: Arc<ColourRules>,
    pub shift: ShiftModel,
    /// First 16 hexadecimal digits of the file's SHA-256.
    pub digest: Arc<str>,
    pub metadata: Arc<Metadata>,
}

/// Why a colour model can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ColourModelError {
    #[error("model {name}: {error}")]
    Invalid { name: String, error: ModelError },
    #[error("model {name}: {why}")]
    Unfit { name: String, why: String },
    #[error("{0}")]
    Embedded(String),
}

/// Why a photo was not corrected, at all or this once.
#[derive(Debug, thiserror::Error)]
pub enum CorrectError {
    #[error(transparent)]
    Photo(#[from] PhotoError),
    #[error("the network failed: {0}")]
    Network(#[from] ModelError),
    #[error("{0}")]
    Settings(String),
}

/// How to correct.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    pub method: Method,
    /// This shift, and no estimate.
    pub shift: Option<Shift>,
    /// The part of the shift that is undone: 1 is all of it.
    pub strength: f64,
    pub preserve_luminance: bool,
    /// A smaller estimate is left alone ([`Shift::size`]); `None`: as the model says.
    pub min_shift: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            method: Method::Network,
            shift: None,
            strength: 1.0,
            preserve_luminance: false,
            min_shift: None,
        }
    }
}

/// What was done to a photo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    pub decision: Decision,
    /// The shift that was given or estimated; none of a grey photo.
    pub shift: Option<Shift>,
    /// Part of the pixels, 0 to 1, of which a channel was clipped and had to be guessed.
    pub clipped: f64,
}

/// Whether a photo was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Corrected,
    /// The estimate is under the least shift.
    TooSmall,
    /// It has no colours.
    Grey,
}

impl ColourRecipe {
    /// The way to see photos, for a model of such shifts.
    pub fn new(shift: ShiftModel) -> Self {
        Self { view: ViewName::Rgb227Triangle, shift }
    }

    /// The canonical text, and its SHA-256.
    pub fn text(self) -> (String, String) {
        let text = serde_json::to_string(&self).unwrap_or_default();
        let hash = Sha256::digest(&text);
        (text, hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl ColourModel {
    /// The model in this program, loaded once.
    ///
    /// # Errors
    /// When it does not run on this machine.
    pub fn embedded() -> Result<Self, ColourModelError> {
        static LOADED: LazyLock<Result<ColourModel, String>> = LazyLock::new(|| {
            ColourModel::from_bytes(EMBEDDED, "(embedded)").map_err(|error| error.to_string())
        });
        LOADED.clone().map_err(ColourModelError::Embedded)
    }

    /// From a model file's content; `name` is for error messages.
    ///
    /// # Errors
    /// When it is none, is damaged, or is not for colours.
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self, ColourModelError> {
        let unfit = |why: String| ColourModelError::Unfit { name: name.to_owned(), why };
        let invalid = |error| ColourModelError::Invalid { name: name.to_owned(), error };
        let artifact = Artifact::read(bytes).map_err(invalid)?;
        let metadata = artifact.metadata.clone();
        if metadata.task != "colour" {
            let task = &metadata.task;
            return Err(unfit(format!("it is for the task {task:?}, needed is \"colour\"")));
        }
        if metadata.outputs.len() != 3 || metadata.activation != Activation::Linear {
            return Err(unfit("it does not end in three plain values".to_owned()));
        }
        let recipe: ColourRecipe = serde_json::from_str(&metadata.recipe)
            .map_err(|error| unfit(format!("the metadata `hearken.recipe` is wrong: {error}")))?;
        let rules: ColourRules = serde_json::from_value(metadata.decision.clone())
            .map_err(|error| unfit(format!("the metadata `hearken.decision` is wrong: {error}")))?;
        let digest = artifact.digest.as_str().into();
        let network = artifact.into_network().map_err(invalid)?;
        if network.channels() != 3 {
            return Err(unfit("its image has not three channels".to_owned()));
        }
        let (rules, metadata) = (Arc::new(rules), Arc::new(metadata));
        Ok(Self { network, rules, shift: recipe.shift, digest, metadata })
    }

    /// The embedded model, or that in a file's content.
    ///
    /// # Errors
    /// As [`ColourModel::from_bytes`].
    pub fn load(file: Option<(&Path, &[u8])>) -> Result<Self, ColourModelError> {
        match file {
            Some((path, bytes)) => Self::from_bytes(bytes, &path.display().to_string()),
            None => Self::embedded(),
        }
    }

    /// A shift under this size is left alone, unless somebody wants otherwise.
    pub fn min_shift(&self) -> f64 {
        self.rules.min_shift
    }

    /// A corrector for one thread.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn corrector(&self) -> Result<Corrector, ModelError> {
        Ok(Corrector { session: self.network.session()?, model: self.clone() })
    }
}

/// Estimates and undoes shifts, for one thread.
pub struct Corrector {
    model: ColourModel,
    session: Session,
}

impl Corrector {
    /// The shift that a photo seems to have.
    ///
    /// # Errors
    /// When the network fails, or the model's statistics are not this program's.
    pub fn estimate(&mut self, view: &View, method: Method) -> Result<Shift, CorrectError> {
        let model = self.model.shift;
        let responses = match method {
            Method::Baseline(baseline) => return Ok(baseline.estimate(view, model)),
            Method::Statistics => {
                let found = self.model.rules.statistics.respond(&statistics(view, model));
                let other = "the model's statistics are those of another version of this program";
                found.ok_or_else(|| CorrectError::Settings(other.to_owned()))?
            }
            Method::Network => {
                let session = &mut self.session;
                let work = || session.run((0..3).flat_map(|channel| view.plane(channel)));
                // The engine leaves the upper halves of the vector registers in use, which makes
                // all later code of its thread without AVX slow: writing a JPEG took twice as long
                // (`cargo bench --bench photos`). So it gets a thread of its own.
                let found = thread::scope(|scope| scope.spawn(work).join());
                let ended = |_| CorrectError::Settings("the network's thread ended".to_owned());
                let found = found.map_err(ended)??;
                std::array::from_fn(|n| f64::from(found.get(n).copied().unwrap_or(0.0)))
            }
        };
        Ok(model.from_responses(responses))
    }

    /// Corrects a photo in place.
    ///
    /// # Errors
    /// When its shift can't be estimated, or the settings make no sense; it is as it was, then.
    pub fn correct(
        &mut self,
        photo: &mut Photo,
        settings: &Settings,
    ) -> Result<Correction, CorrectError> {
        check(settings)?;
        let untouched = |decision, shift| Correction { decision, shift, clipped: 0.0 };
        if photo.is_grey() {
            return Ok(untouched(Decision::Grey, None));
        }
        let shift = match settings.shift {
            Some(shift) => shift,
            None => self.estimate(&View::of(photo)?, settings.method)?,
        };
        // A shift that is given is meant.
        let least = match settings.shift {
            Some(_) => 0.0,
            None => settings.min_shift.unwrap_or(self.model.rules.min_shift),
        };
        if shift.size() < least {
            return Ok(untouched(Decision::TooSmall, Some(shift)));
        }
        let mut undone = shift.scaled(settings.strength);
        if settings.preserve_luminance {
            undone = undone.keeping_luminance();
        }
        let channels = photo.channels;
        let guessed = match &mut photo.samples {
            Samples::Eight(samples) => Undo::new(&undone).apply(samples, channels),
            Samples::Sixteen(samples) => Undo::new(&undone).apply(samples, channels),
        };
        let pixels = f64::from(photo.width) * f64::from(photo.height);
        let clipped = guessed as f64 / pixels.max(1.0);
        Ok(Correction { decision: Decision::Corrected, shift: Some(shift), clipped })
    }
}

fn check(settings: &Settings) -> Result<(), CorrectError> {
    let wrong = |what: String| Err(CorrectError::Settings(what));
    if !(0.0..=2.0).contains(&settings.strength) {
        return wrong(format!("a strength of {} is not within 0 to 2", settings.strength));
    }
    let Some(shift) = settings.shift else { return Ok(()) };
    let allowed = match shift.model {
        ShiftModel::Offset => -OFFSET_MAX..=OFFSET_MAX,
        ShiftModel::Gain => GAIN_MAX.recip()..=GAIN_MAX,
    };
    match shift.values.iter().all(|value| allowed.contains(value)) {
        true => Ok(()),
        false => wrong(format!("a shift of {:?} is out of range", shift.shown())),
    }
}

/// Corrects `width * height` pixels of red, green and blue in place with the model in this
/// program: the library's short way.
///
/// ```
/// let mut rgb = vec![90; 64 * 48 * 3];
/// rgb[0] = 200;
/// let done = hearken::correct::pixels(&mut rgb, 64, 48, &Default::default())?;
/// println!("{:?} {:?}", done.decision, done.shift);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When there are not `width * height * 3` bytes, or the model does not run on this machine; the
/// pixels are as they were, then.
pub fn pixels(
    rgb: &mut [u8],
    width: u32,
    height: u32,
    settings: &Settings,
) -> Result<Correction, CorrectError> {
    let expected = u64::from(width) * u64::from(height) * 3;
    if rgb.len() as u64 != expected || rgb.is_empty() {
        let got = rgb.len();
        let why = format!("{got} bytes are not {width}x{height} pixels of 3");
        return Err(CorrectError::Settings(why));
    }
    let model =
        ColourModel::embedded().map_err(|error| CorrectError::Settings(error.to_string()))?;
    let mut photo = Photo::from_rgb8(Format::Png, width, height, rgb.to_vec());
    let correction = model.corrector()?.correct(&mut photo, settings)?;
    if let Samples::Eight(samples) = &photo.samples {
        rgb.copy_from_slice(samples);
    }
    Ok(correction)
}
