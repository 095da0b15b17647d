//! Keeps a repeating complaint from filling the log: each distinct one is said at once, and then
//! at most once a minute with the number of times it came up. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(60);
/// Distinct complaints remembered; beyond it the one said longest ago is forgotten.
const DISTINCT_MAX: usize = 32;

#[derive(Debug)]
struct Said {
    at: Instant,
    unsaid: u64,
}

/// What was complained about, and when.
#[derive(Debug, Default)]
pub struct Quiet {
    said: BTreeMap<String, Said>,
}

impl Quiet {
    /// Whether to log this complaint now, and if so, how often it came up in silence since the
    /// last time.
    pub fn speak(&mut self, complaint: &str, now: Instant) -> Option<u64> {
        if let Some(said) = self.said.get_mut(complaint) {
            if now.saturating_duration_since(said.at) < INTERVAL {
                said.unsaid += 1;
                return None;
            }
            let unsaid = std::mem::take(&mut said.unsaid);
            said.at = now;
            return Some(unsaid);
        }
        if self.said.len() >= DISTINCT_MAX {
            let oldest = self.said.iter().min_by_key(|(_, said)| said.at);
            if let Some(oldest) = oldest.map(|(complaint, _)| complaint.clone()) {
                self.said.remove(&oldest);
            }
        }
        self.said.insert(complaint.to_owned(), Said { at: now, unsaid: 0 });
        Some(0)
    }

    /// All is well again: the next complaint is news.
    pub fn forget(&mut self) {
        self.said.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_complaint_is_said_once_a_minute() {
        let mut quiet = Quiet::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(quiet.speak("refused", start), Some(0));
        assert_eq!(quiet.speak("refused", after(1)), None);
        assert_eq!(quiet.speak("refused", after(59)), None);
        assert_eq!(quiet.speak("timeout", after(59)), Some(0));
        assert_eq!(quiet.speak("refused", after(60)), Some(2));
        assert_eq!(quiet.speak("refused", after(61)), None);
        quiet.forget();
        assert_eq!(quiet.speak("refused", after(62)), Some(0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut quiet = Quiet::default();
        for number in 0..1000 {
            quiet.speak(&number.to_string(), Instant::now());
        }
        assert_eq!(quiet.said.len(), DISTINCT_MAX);
    }
}
