//! Models of a cross-validation: one for each fold, which has not learned from it.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;

use super::Usage;
use crate::evaluate::scores::Scaling;
use crate::hear::SoundModel;

/// What stands for the fold's number.
const FOLD: &str = "{fold}";

/// Names of model files by fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldModels(String);

impl FromStr for FoldModels {
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, String> {
        match pattern.contains(FOLD) {
            true => Ok(Self(pattern.to_owned())),
            false => Err(format!("there is no {FOLD} in it")),
        }
    }
}

impl FoldModels {
    /// The model file that hears a fold.
    pub fn path(&self, fold: u32) -> PathBuf {
        PathBuf::from(self.0.replace(FOLD, &fold.to_string()))
    }

    /// The model of a fold, which must be of the same kind as the one whose rules it goes by, and
    /// calibrated like it.
    pub fn load(&self, fold: u32, like: &SoundModel) -> anyhow::Result<SoundModel> {
        let path = self.path(fold);
        let name = || format!("--models: {}", path.display());
        let model = SoundModel::load(Some(&path))?;
        check_alike(&model, like).with_context(name)?;
        if Scaling::of(&model.metadata) != Scaling::of(&like.metadata) {
            let what = "the models are not calibrated alike, so the rules of one say nothing about \
                        the other's scores (see `hearken calibrate --like`)";
            return Err(Usage(what.to_owned())).with_context(name);
        }
        Ok(model)
    }
}

/// Refuses a model that isn't of the same kind as another: of the same classes, kind of scores and
/// image.
pub fn check_alike(one: &SoundModel, other: &SoundModel) -> Result<(), Usage> {
    let (one, other) = (&one.metadata, &other.metadata);
    let differ = if one.outputs != other.outputs {
        "do not know the same classes"
    } else if one.activation != other.activation {
        "do not give the same kind of scores"
    } else if one.recipe_hash != other.recipe_hash {
        "do not hear by the same recipe"
    } else {
        return Ok(());
    };
    Err(Usage(format!("the models {differ}")))
}
