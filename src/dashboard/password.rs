//! Passwords as Argon2id hashes. The only home of `argon2`.

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Argon2, Params};

use crate::secret::Secret;

/// Whether a text is a hash that [`is_right`] can compare with.
pub fn is_hash(text: &str) -> bool {
    let parsed = phc::PasswordHash::new(text);
    let complete = |hash: phc::PasswordHash| {
        hash.salt.is_some() && hash.hash.is_some() && Params::try_from(&hash).is_ok()
    };
    text.starts_with("$argon2id$") && parsed.is_ok_and(complete)
}

/// The hash of a password with a salt of its own; takes some 20 ms and 19 MiB, on purpose.
///
/// # Errors
/// When the system gives no random numbers.
pub fn hash(password: &str) -> Result<Secret, String> {
    let hashed = Argon2::default().hash_password(password.as_bytes());
    hashed.map(|hash| Secret::new(hash.to_string())).map_err(|error| error.to_string())
}

/// Whether this is the password; takes as long as [`hash`].
pub fn is_right(password: &str, hash: &Secret) -> bool {
    phc::PasswordHash::new(hash.reveal())
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_hash_alone() {
        let hashed = hash("correct horse").unwrap();
        assert!(is_hash(hashed.reveal()) && is_right("correct horse", &hashed));
        assert!(!is_right("correct horsf", &hashed) && !is_right("", &hashed));
        assert_ne!(hash("correct horse").unwrap(), hashed, "each has a salt of its own");
        assert!(!format!("{hashed:?}").contains("argon2id"));
    }

    #[test]
    fn a_hash_made_by_the_reference_program_fits() {
        // By the reference implementation, through Python's argon2-cffi: hash_secret(b"correct horse",
        // b"somesalt somesalt", time_cost=2, memory_cost=1024, parallelism=1, hash_len=32, type=Type.ID).
        let text = "$argon2id$v=19$m=1024,t=2,p=1$c29tZXNhbHQgc29tZXNhbHQ$\
                    2r8S99FTpcBmSaXJyDzg1KGdLLyxggNqQH7ak8KmGBA";
        assert!(is_hash(text));
        assert!(is_right("correct horse", &Secret::new(text.to_owned())));
    }

    #[test]
    fn other_texts_are_no_hashes() {
        for text in
            ["", "secret", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=1"]
        {
            assert!(!is_hash(text), "{text}");
        }
    }
}
