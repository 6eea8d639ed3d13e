//! The right to knock at a host once with a certificate that opens nothing, as a value.
//!
//! A [`Probe`] is made in `store/probes.rs` alone, from a row that the log names; `authority::ProbeAuthority`
//! signs for nothing else. It is no [`super::Grant`] and cannot become one: no session opens on it.

use crate::id::Login;

use super::Target;

/// What a probe finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Whether a session's certificate would be accepted: the same principal, now.
    Login,
    /// Whether it would be at some other time: the host's clock is off.
    Clock,
    /// Whether the CA is trusted but plain logins are asked for: no principals file is in force.
    Plain,
}

impl Asks {
    pub const ALL: [Asks; 3] = [Asks::Login, Asks::Clock, Asks::Plain];

    /// The word in the log.
    pub fn word(self) -> &'static str {
        match self {
            Asks::Login => "login",
            Asks::Clock => "clock",
            Asks::Plain => "plain",
        }
    }

    /// The one principal of its certificate.
    pub fn principal(self, target: &Target, login: &Login) -> String {
        match self {
            Asks::Login | Asks::Clock => target.certificate_principal(login),
            Asks::Plain => login.to_string(),
        }
    }
}

/// One logged probe. See the module for who makes it.
#[derive(Debug)]
pub struct Probe {
    facts: Facts,
}

/// What the row says.
#[derive(Debug)]
pub struct Facts {
    pub asks: Asks,
    pub principal: String,
    pub serial: u64,
    /// The operator's account on the bastion.
    pub by: String,
}

impl Probe {
    /// Only for `store/probes.rs` (see `tests/architecture.rs`).
    pub(crate) fn logged(facts: Facts) -> Self {
        Self { facts }
    }

    pub fn asks(&self) -> Asks {
        self.facts.asks
    }

    pub fn principal(&self) -> &str {
        &self.facts.principal
    }

    pub fn serial(&self) -> u64 {
        self.facts.serial
    }

    pub fn by(&self) -> &str {
        &self.facts.by
    }
}
