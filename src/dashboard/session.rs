//! Who may do what. One password opens everything; without one, whoever reaches the dashboard (it is
//! on this machine, then) may look and try files, and change nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::password;
use crate::allowance::Allowance;
use crate::secret::Secret;

/// The cookie of a session.
const COOKIE: &str = "hearken_session";
/// A session ends after so long, or with the process.
const SESSION: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Sessions at a time; the oldest give way.
const SESSIONS_MAX: usize = 64;
/// Passwords that may be tried at once, and then one in so long, by all together.
const TRIES: u32 = 8;
const TRY_EVERY: Duration = Duration::from_secs(4);
/// A longer password is not looked at.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Look at everything but sound.
    Read,
    /// Have files worked on.
    Use,
    /// Switch sources, hear clips, test alerts.
    Change,
}

/// A password that does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    Wrong,
    /// Too many were tried: not before so many seconds have passed.
    TooOften {
        retry_s: u64,
    },
}

/// The door.
pub struct Door {
    hash: Option<Secret>,
    secure: bool,
    state: Mutex<State>,
}

struct State {
    /// When each session began, by its token.
    sessions: BTreeMap<String, Instant>,
    tries: Allowance,
    /// Digest of the password that was right, so that a program that sends it with each request does
    /// not cost an Argon2 each time.
    known: Option<[u8; 32]>,
}

impl Door {
    /// `secure`: browsers come by TLS.
    pub fn new(hash: Option<Secret>, secure: bool) -> Self {
        let state = State {
            sessions: BTreeMap::new(),
            tries: Allowance::new(TRIES, TRY_EVERY),
            known: None,
        };
        Self { hash, secure, state: Mutex::new(state) }
    }

    /// Whether there is a password.
    pub fn is_locked(&self) -> bool {
        self.hash.is_some()
    }

    /// What comes with these headers may do so much. Takes the time of an Argon2 for a password that
    /// was not right before.
    ///
    /// # Errors
    /// When there is a password in them, and it is not the right one.
    pub fn rights(&self, headers: &HeaderMap) -> Result<&'static [Right], Rejected> {
        const ALL: &[Right] = &[Right::Read, Right::Use, Right::Change];
        if !self.is_locked() {
            return Ok(&[Right::Read, Right::Use]);
        }
        if token(headers).is_some_and(|token| self.knows(token, Instant::now())) {
            return Ok(ALL);
        }
        match password_in(headers) {
            Some(password) => self.check(&password, Instant::now()).map(|()| ALL),
            None => Ok(&[]),
        }
    }

    /// Opens with a password: the cookie to set.
    ///
    /// # Errors
    /// When it is not the right one.
    pub fn sign_in(&self, password: &str) -> Result<String, Rejected> {
        let now = Instant::now();
        self.check(password, now)?;
        let token = uuid::Uuid::new_v4().simple().to_string();
        let mut state = self.lock();
        state.sessions.retain(|_, began| now.saturating_duration_since(*began) < SESSION);
        while state.sessions.len() >= SESSIONS_MAX {
            let oldest = state.sessions.iter().min_by_key(|(_, began)| **began);
            let Some(oldest) = oldest.map(|(token, _)| token.clone()) else { break };
            state.sessions.remove(&oldest);
        }
        state.sessions.insert(token.clone(), now);
        drop(state);
        Ok(self.cookie(&token, SESSION))
    }

    /// Ends a session: the cookie that clears the other.
    pub fn sign_out(&self, headers: &HeaderMap) -> String {
        if let Some(token) = token(headers) {
            self.lock().sessions.remove(token);
        }
        self.cookie("", Duration::ZERO)
    }

    fn cookie(&self, token: &str, age: Duration) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        let age = age.as_secs();
        format!("{COOKIE}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
    }

    fn knows(&self, token: &str, now: Instant) -> bool {
        let began = self.lock().sessions.get(token).copied();
        began.is_some_and(|began| now.saturating_duration_since(began) < SESSION)
    }

    fn check(&self, password: &str, now: Instant) -> Result<(), Rejected> {
        let hash = self.hash.as_ref().ok_or(Rejected::Wrong)?;
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Rejected::Wrong);
        }
        let digest: [u8; 32] = Sha256::digest(password.as_bytes()).into();
        // Held over the Argon2: one at a time, whoever asks.
        let mut state = self.lock();
        if state.known == Some(digest) {
            return Ok(());
        }
        if !state.tries.take(now) {
            return Err(Rejected::TooOften { retry_s: TRY_EVERY.as_secs() });
        }
        if !password::is_right(password, hash) {
            return Err(Rejected::Wrong);
        }
        state.known = Some(digest);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| name.trim() == COOKIE).map(|(_, token)| token.trim())
}

/// The password of `Authorization: Bearer PASSWORD`, or of `Basic` with any user.
fn password_in(headers: &HeaderMap) -> Option<String> {
    use base64::Engine as _;
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(rest).ok()?;
    String::from_utf8(bytes).ok()?.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "correct horse";

    fn locked() -> Door {
        Door::new(Some(password::hash(PASSWORD).unwrap()), false)
    }

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn without_a_password_one_may_look_and_not_change() {
        let door = Door::new(None, false);
        assert_eq!(door.rights(&HeaderMap::new()), Ok([Right::Read, Right::Use].as_slice()));
        assert_eq!(door.sign_in("anything"), Err(Rejected::Wrong));
    }

    #[test]
    fn a_session_opens_until_it_is_ended() {
        let door = locked();
        assert_eq!(door.rights(&HeaderMap::new()), Ok([].as_slice()));
        let cookie = door.sign_in(PASSWORD).unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        let with = headers(header::COOKIE, &format!("theme=dark; {pair}"));
        assert_eq!(door.rights(&with).unwrap().len(), 3);
        assert!(door.sign_out(&with).contains("Max-Age=0"));
        assert_eq!(door.rights(&with), Ok([].as_slice()));
        let guessed = headers(header::COOKIE, &format!("{COOKIE}="));
        assert_eq!(door.rights(&guessed), Ok([].as_slice()));
    }

    #[test]
    fn programs_send_the_password_themselves() {
        let door = locked();
        let bearer = headers(header::AUTHORIZATION, &format!("Bearer {PASSWORD}"));
        assert_eq!(door.rights(&bearer).unwrap().len(), 3);
        // base64 of "prometheus:correct horse", by another program.
        let basic = headers(header::AUTHORIZATION, "Basic cHJvbWV0aGV1czpjb3JyZWN0IGhvcnNl");
        assert_eq!(door.rights(&basic).unwrap().len(), 3);
        for wrong in ["Bearer nothing", "Basic bm90aGluZw==", "Basic bjpvdGhlcg=="] {
            let rights = door.rights(&headers(header::AUTHORIZATION, wrong));
            assert!(rights.is_err() || rights == Ok([].as_slice()), "{wrong}");
        }
    }

    #[test]
    fn guessing_is_slow() {
        let door = locked();
        let tried: Vec<_> = (0..TRIES + 3).map(|n| door.sign_in(&format!("{n}"))).collect();
        let wrong = tried.iter().filter(|one| **one == Err(Rejected::Wrong)).count();
        assert_eq!(wrong, TRIES as usize);
        assert!(matches!(tried.last(), Some(Err(Rejected::TooOften { .. }))));
        // Not even the right one gets through then.
        assert!(matches!(door.sign_in(PASSWORD), Err(Rejected::TooOften { .. })));
    }

    #[test]
    fn sessions_are_bounded() {
        let door = locked();
        (0..SESSIONS_MAX + 5).for_each(|_| drop(door.sign_in(PASSWORD).unwrap()));
        assert_eq!(door.lock().sessions.len(), SESSIONS_MAX);
    }
}
