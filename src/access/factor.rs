//! The second factor: one-time codes (TOTP, RFC 6238: SHA-1, six digits, 30 s) of persons who have one.
//!
//! A code is worth something once: the step that it fits has to be spent in the state before it counts,
//! so a [`SecondFactor`] is made in `store/factors.rs` alone, in the transaction that spends it. Codes
//! are compared in constant time (totp-rs). Secrets never stand in `policies/`, and are never printed.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE32_NOPAD;
use totp_rs::{Builder, Totp};
use zeroize::Zeroizing;

use crate::id::{Digest, Person};
use crate::time::Timestamp;

/// 160 bits, as RFC 4226 section 4 recommends.
pub const SECRET: usize = 20;
const DIGITS: usize = 6;

/// Proof that a person gave a code that nobody had used: on this connection, or on the one it runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondFactor {
    person: Person,
    at: Timestamp,
    /// Of the secret whose code it was; without one it does not outlive the next look at the directory.
    secret: Option<Digest>,
}

impl SecondFactor {
    /// Only for the transaction that has spent the code's step (see `tests/architecture.rs`).
    pub(crate) fn proven(person: Person, at: Timestamp) -> Self {
        Self { person, at, secret: None }
    }

    /// Binds it to the secret whose code was given: it counts for as long as the person has that one.
    pub fn of(self, secret: &Secret) -> Self {
        Self { secret: Some(secret.digest()), ..self }
    }

    /// Whether it was given with this secret.
    pub fn is_of(&self, secret: Option<&Digest>) -> bool {
        secret.is_some() && self.secret.as_ref() == secret
    }

    pub fn person(&self) -> &Person {
        &self.person
    }

    pub fn at(&self) -> Timestamp {
        self.at
    }
}

/// When a person who has a second factor is asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ask {
    /// Where policy denies something on the target that is asked for, and would not with it.
    #[default]
    WhenNeeded,
    /// At every login.
    Always,
}

/// The step of 30 s whose code was given. It still has to be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(i64);

impl Step {
    pub fn number(self) -> i64 {
        self.0
    }

    /// The step of a moment, as if its code had been given.
    #[cfg(test)]
    pub(crate) fn of(now: Timestamp) -> Self {
        Self(now.micros() / 30_000_000)
    }
}

/// What somebody typed when they were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Not six digits: no guess, and not counted as one.
    NoCode,
    Wrong,
    Fits(Step),
}

/// A shared secret.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; SECRET]>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a secret of a second factor")]
pub struct NotASecret;

impl Secret {
    pub fn new(bytes: Zeroizing<[u8; SECRET]>) -> Self {
        Self(bytes)
    }

    /// Reads what [`Secret::text`] wrote: 32 letters and digits of base32.
    pub fn read(text: &str) -> Result<Self, NotASecret> {
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(text.trim().as_bytes()).map_err(|_| NotASecret)?);
        let mut secret = Zeroizing::new([0; SECRET]);
        if bytes.len() != SECRET {
            return Err(NotASecret);
        }
        secret.copy_from_slice(&bytes);
        Ok(Self(secret))
    }

    /// What tells it from another, for comparing in memory; it is written nowhere.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_slice())
    }

    /// The secret as people's apps take it.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE32_NOPAD.encode(self.0.as_slice()))
    }

    /// Judges what was typed: the codes of now and of one step before and after it fit (RFC 6238 5.2).
    pub fn judge(&self, typed: &str, now: Timestamp) -> Answer {
        // Apps show codes as `123 456`.
        let code: String = typed.chars().filter(|c| *c != ' ').take(DIGITS + 1).collect();
        if code.len() != DIGITS || !code.bytes().all(|b| b.is_ascii_digit()) {
            return Answer::NoCode;
        }
        let Some(totp) = self.totp() else { return Answer::Wrong };
        let seconds = u64::try_from(now.micros() / 1_000_000).unwrap_or(0);
        match totp.check(&code, seconds).and_then(|step| i64::try_from(step).ok()) {
            Some(step) => Answer::Fits(Step(step)),
            None => Answer::Wrong,
        }
    }

    fn totp(&self) -> Option<Totp> {
        Builder::new().with_secret(*self.0).with_skew(1).build().ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A person's second factor, and when they are asked for it.
#[derive(Debug, Clone)]
pub struct Enrolled {
    pub secret: Secret,
    pub ask: Ask,
}

/// Everybody who has one.
#[derive(Debug, Clone, Default)]
pub struct Factors(pub BTreeMap<Person, Enrolled>);

impl Factors {
    pub fn of(&self, person: &Person) -> Option<&Enrolled> {
        self.0.get(person)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_010_000_000);
    const STEP: i64 = 30_000_000;

    fn secret() -> Secret {
        Secret::new(Zeroizing::new(*b"12345678901234567890"))
    }

    /// RFC 6238 appendix B, its last six digits.
    #[test]
    fn the_codes_are_those_of_the_rfc() {
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")] {
            let at = Timestamp::from_micros(seconds * 1_000_000);
            assert_eq!(secret().judge(code, at), Answer::Fits(Step(seconds / 30)), "{code}");
        }
    }

    #[test]
    fn one_step_each_way_fits_and_two_do_not() {
        let code = secret().totp().unwrap().generate(1_700_000_010).to_string();
        let fits = Answer::Fits(Step(1_700_000_010 / 30));
        for (steps, expected) in [(-2, Answer::Wrong), (-1, fits), (0, fits), (1, fits), (2, Answer::Wrong)] {
            let then = Timestamp::from_micros(NOW.micros() + steps * STEP);
            assert_eq!(secret().judge(&code, then), expected, "{steps}");
        }
        let spaced = format!(" {} {} ", &code[..3], &code[3..]);
        assert_eq!(secret().judge(&spaced, NOW), fits);
    }

    #[test]
    fn what_is_no_code_is_no_guess() {
        for typed in ["", "12345", "1234567", "12345a", "１２３４５６", "-12345", "123456\n", "١٢٣٤٥٦", "\0\0\0\0\0\0"] {
            assert_eq!(secret().judge(typed, NOW), Answer::NoCode, "{typed:?}");
        }
        assert_eq!(secret().judge(&"9".repeat(1_000_000), NOW), Answer::NoCode);
    }

    #[test]
    fn a_secret_is_read_as_it_was_written_and_never_printed() {
        let text = secret().text();
        assert_eq!(Secret::read(&format!("{}\n", *text)).unwrap().0, secret().0);
        for bad in ["", "AAAA", "lower", &"A".repeat(31), &"A".repeat(40), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1"] {
            assert!(Secret::read(bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", Enrolled { secret: secret(), ask: Ask::Always }), "Enrolled { secret: Secret(…), ask: Always }");
    }
}
