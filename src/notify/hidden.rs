//! Secrets of notifiers in memory: wiped when dropped, and never printed.

use std::fmt;

use zeroize::Zeroizing;

#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

/// A secret, or why there is none: the environment of whoever runs `check` is not the bastion's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Here(Hidden),
    Missing(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Found::Here(Hidden::new("s3cret"))), "Here(hidden)");
    }
}
