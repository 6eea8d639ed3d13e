//! Who may do what where, what was asked, and what was decided: pure, without I/O, `now` an argument.
//!
//! The chain is `VerifiedKey` → `Principal` → `Ruling` → (request, decisions) → `Grant`; each is made in
//! one place and demanded by the next.

pub mod action;
pub mod alike;
pub mod canonical;
pub mod certificate;
pub mod context;
pub mod decision;
pub mod endpoint;
pub mod factor;
pub mod family;
pub mod grant;
pub mod granted;
pub mod habit;
pub mod hours;
pub mod kinds;
pub mod people;
pub mod policy;
pub mod preset;
pub mod principal;
pub mod probe;
pub mod proof;
pub mod request;
pub mod ruling;
pub mod scope;
pub mod source;
pub mod target;
pub mod workflow;

pub use action::{Action, Class, ConsoleAction, Want};
pub use context::OpeningContext;
pub use endpoint::Endpoint;
pub use factor::SecondFactor;
pub use grant::Grant;
pub use people::People;
pub use principal::{Principal, VerifiedKey};
pub use ruling::Ruling;
pub use scope::Scope;
pub use target::Target;
