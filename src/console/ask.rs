//! What a request made ahead of connecting asks for: today's rulings over every target it names.
//! Pure: who, where and what in, an ask or the reason for none out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::grammar::{Destination, RequestArgs};
use crate::access::policy::There;
use crate::access::ruling::{Hold, Terms};
use crate::access::scope::Reach;
use crate::access::{Principal, Ruling, Scope, Target, Want};
use crate::config::Directory;
use crate::id::{Login, TargetId};
use crate::time::Timestamp;

/// What has to be approved.
#[derive(Debug)]
pub struct Ahead {
    pub targets: Vec<Arc<Target>>,
    pub login: Login,
    pub scope: Scope,
    pub holds: Vec<Hold>,
    pub terms: Terms,
    pub commands: Vec<Vec<u8>>,
    pub stdin: bool,
    /// Named too, but policy lets the person in there without asking anybody.
    pub free: Vec<TargetId>,
}

/// Why nothing is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Nothing {
    /// Unknown, or nothing that this person may ask for: one answer for both.
    NotYours(Destination),
    /// Policy asks nobody.
    Free,
    /// The targets' default logins differ.
    Logins(Login, Login),
}

/// Rules on every target at once. `first_time` says whether the person has never opened a target.
pub fn ahead(
    directory: &Directory,
    who: &Principal,
    args: &RequestArgs,
    first_time: &(dyn Fn(&TargetId) -> bool + Send + Sync),
    now: Timestamp,
) -> Result<Ahead, Nothing> {
    let want = args.exec.as_ref().map_or(Want::Shell, |command| Want::Exec(command.clone().into_bytes()));
    let mut ahead: Option<Ahead> = None;
    let (mut free, mut seen) = (Vec::new(), BTreeSet::new());
    let mut common: Option<Login> = None;
    for named in &args.targets {
        let not_yours = || Nothing::NotYours(named.clone());
        let target = directory.targets.find(&named.target).ok_or_else(not_yours)?;
        let login = target.account(named.login.as_ref(), who.person()).ok_or_else(not_yours)?;
        if !seen.insert(target.id.clone()) {
            continue;
        }
        if let Some(common) = common.replace(login.clone()).filter(|common| *common != login) {
            return Err(Nothing::Logins(common, login));
        }
        let there = There { who, target: &target, login: &login, first_time: first_time(&target.id), now };
        // `--exec` asks for exactly its bytes, whatever a shell would be ruled (**D scope**).
        let mut asked = directory.policy.ask(&there, &want, Reach::Exact);
        if matches!(asked.ruling, Ruling::Deny(_)) {
            // The second factor is given when they come; what is asked ahead is ruled again then.
            asked = directory.policy.ask_with_second_factor(&there, &want, Reach::Exact);
        }
        match asked.ruling {
            Ruling::Deny(_) => return Err(not_yours()),
            Ruling::Permit(_) => free.push(target.id.clone()),
            Ruling::RequireApproval { terms, holds } => {
                ahead = Some(match ahead {
                    None => Ahead {
                        targets: vec![target.clone()],
                        stdin: asked.scope.0.len() > 1 || want == Want::Shell,
                        commands: asked.scope.exact_commands(&want),
                        login,
                        scope: asked.scope,
                        holds,
                        terms,
                        free: Vec::new(),
                    },
                    Some(so_far) => so_far.and(target.clone(), asked.scope, holds, terms),
                });
            }
        }
    }
    let mut ahead = ahead.ok_or(Nothing::Free)?;
    ahead.free = free;
    Ok(ahead)
}

impl Ahead {
    /// The same ask on one more target: the scope that both share, what both demand.
    fn and(mut self, target: Arc<Target>, scope: Scope, holds: Vec<Hold>, terms: Terms) -> Self {
        self.targets.push(target);
        self.targets.sort_by(|a, b| a.id.cmp(&b.id));
        self.scope = Scope(self.scope.0.intersection(&scope.0).cloned().collect());
        self.holds = self.holds.into_iter().chain(holds).collect::<BTreeSet<Hold>>().into_iter().collect();
        self.terms = self.terms.meet(terms);
        self
    }
}
