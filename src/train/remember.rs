//! The memory of a network: embeddings of some of the sounds that it was trained on, to travel in
//! its model file.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::embed::{EmbedError, embed};
use super::sounds::{Labelled, SoundExamples, SoundSet};
use crate::network::{Headless, Memory};

/// One remembered sound in so many is a negative, if there are any: what a microphone hears is
/// mostly none of the classes.
const NEGATIVE_EVERY: usize = 4;

/// Fills a memory, evenly from all classes; `done` is called after each run of the network.
pub fn remember(
    headless: &Headless,
    set: SoundSet,
    labelled: &[Labelled],
    seed: u64,
    done: &(dyn Fn() + Sync),
) -> Result<Memory, EmbedError> {
    let chosen = choose(labelled, Memory::room(headless.head().features), seed);
    let examples = SoundExamples::validation(set, chosen);
    let mut embeddings = Vec::new();
    let mut last = None;
    for embedding in embed(&headless.embedder()?, &examples, 0..1, done)? {
        // One window of a sound: more would be more of the same.
        let sound = examples.sound_of(embedding.index);
        if sound != last {
            embeddings.push(embedding.values);
        }
        last = sound;
    }
    Ok(Memory { embeddings })
}

/// At most `room` sounds: one of each class in turn, and a negative now and then.
fn choose(labelled: &[Labelled], room: usize, seed: u64) -> Vec<Labelled> {
    let mut random = Rng::with_seed(seed);
    let mut by_class: BTreeMap<Option<usize>, Vec<&Labelled>> = BTreeMap::new();
    for one in labelled {
        by_class.entry(one.classes.first().copied()).or_default().push(one);
    }
    by_class.values_mut().for_each(|sounds| random.shuffle(sounds));
    let mut negatives = by_class.remove(&None).unwrap_or_default();
    let mut chosen = Vec::new();
    while chosen.len() < room {
        let before = chosen.len();
        for sounds in by_class.values_mut() {
            chosen.extend(sounds.pop().cloned());
            if chosen.len() % NEGATIVE_EVERY == NEGATIVE_EVERY - 1 {
                chosen.extend(negatives.pop().cloned());
            }
        }
        if chosen.len() == before {
            chosen.extend(negatives.drain(..).cloned());
            break;
        }
    }
    chosen.truncate(room);
    chosen
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::hear::{SoundModel, embedded_model};
    use crate::train::library::Library;

    fn labelled(sound: usize, class: Option<usize>) -> Labelled {
        Labelled { sound, classes: class.into_iter().collect(), ..Labelled::default() }
    }

    #[test]
    fn classes_come_evenly_and_negatives_are_a_quarter() {
        let mut all: Vec<Labelled> = (0..90).map(|n| labelled(n, Some(n % 3))).collect();
        all.extend((90..200).map(|n| labelled(n, None)));
        all.push(labelled(200, Some(3)));
        let chosen = choose(&all, 40, 1);
        let count = |class| chosen.iter().filter(|one| one.classes.first() == class).count();
        assert_eq!(chosen.len(), 40);
        assert_eq!(count(Some(&3)), 1, "there is only one");
        assert!((9..=11).contains(&count(None)), "{}", count(None));
        assert!((9..=10).contains(&count(Some(&0))), "{}", count(Some(&0)));
        assert_eq!(choose(&all, 1_000, 1).len(), 201);
        assert_ne!(choose(&all, 40, 2), chosen);
        assert!(choose(&[], 40, 1).is_empty());
    }

    #[test]
    fn one_window_of_each_sound_is_remembered() {
        let headless = Headless::from_onnx(embedded_model()).unwrap();
        let mut random = Rng::with_seed(1);
        let sounds = [400_000, 100_000].map(|len| (0..len).map(|_| random.f32() - 0.5).collect());
        let set = SoundSet {
            recipe: SoundModel::load(None).unwrap().recipe,
            sounds: Arc::new(Library::of(sounds)),
            backgrounds: Arc::new([]),
            outputs: 1,
        };
        let all = [labelled(0, Some(0)), labelled(1, None)];
        let memory = remember(&headless, set, &all, 1, &|| ()).unwrap();
        assert_eq!(memory.embeddings.len(), 2);
        assert_eq!(memory.embeddings[0].len(), headless.head().features);
    }
}
