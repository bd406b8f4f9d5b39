//! Every method and every route, by every kind of caller, for every kind of tenant: who is let in, and who learns
//! nothing. Both lists are read from what is served, so that nothing new is left out.

mod callers;
mod grpc;
mod rest;

use control_plane::identity::{Role, Rule, rules};
use serde_json::json;
use tests::load::Publisher;
use uuid::Uuid;

use self::callers::Caller;
use crate::support::{Options, Stack};

/// Stands in the other tenant's name, description and messages, and may stand in nobody else's answers.
const MARK: &str = "what-the-other-tenant-has";

/// Whom a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Own(Uuid),
    Other(Uuid),
    Absent(Uuid),
}

impl Target {
    fn id(self) -> Uuid {
        match self {
            Self::Own(id) | Self::Other(id) | Self::Absent(id) => id,
        }
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// 401
    Unauthenticated,
    /// 403
    Denied,
    /// Anything else: the handler has seen it.
    Reached,
    /// Whatever the handler says: it asks for no token.
    Any,
}

/// A method, as far as it matters who calls it.
#[derive(Clone, Debug)]
struct Method {
    /// `/jalur.v1.TenantService/GetTenant`
    path: String,
    /// Whether a call says which tenant it is about.
    is_of_a_tenant: bool,
}

impl Method {
    fn expected(&self, caller: &Caller, target: Target) -> Answer {
        let roles = match rules::of(&self.path) {
            Some(Rule::Public) => return Answer::Any,
            Some(Rule::Roles(roles)) => roles,
            None => panic!("{} has no rule", self.path),
        };
        let Some(role) = caller.role else {
            return Answer::Unauthenticated;
        };
        let own = matches!(target, Target::Own(_));
        match role {
            _ if !roles.contains(&role) => Answer::Denied,
            Role::Tenant | Role::TenantAdmin if !self.is_of_a_tenant => Answer::Reached,
            Role::Tenant | Role::TenantAdmin if !own => Answer::Denied,
            Role::Tenant | Role::TenantAdmin if caller.is_gone => Answer::Unauthenticated,
            _ => Answer::Reached,
        }
    }

    /// An admin's deletion of a tenant that others are still to ask for would be the last thing that is tried.
    fn is_left_out(&self, caller: &Caller, target: Target) -> bool {
        let deletes = self.path.ends_with("/DeleteTenant");
        deletes && caller.role == Some(Role::Admin) && !matches!(target, Target::Absent(_))
    }
}

/// Somebody who may make calls, and a tenant that they may make them about.
struct Cell<'a> {
    caller: &'a Caller,
    target: Target,
}

/// All callers with all targets; the tenant that is gone is its callers' own.
fn cells<'a>(callers: &'a [Caller], targets: &[Target], gone: Uuid) -> Vec<Cell<'a>> {
    let cells = callers.iter().flat_map(|caller| {
        targets.iter().map(move |&target| {
            let target = match target {
                Target::Own(_) if caller.is_gone => Target::Own(gone),
                target => target,
            };
            Cell { caller, target }
        })
    });
    cells.collect()
}

#[tokio::test]
async fn every_caller_gets_what_is_theirs_and_learns_nothing_else() {
    let keys = callers::keys();
    let stack = Stack::start(Options {
        control_plane_env: vec![("JALUR_CONFIG", keys.path().display().to_string())],
        ..Options::default()
    })
    .await;
    let own = stack.tenant("own").await;
    let body = json!({ "name": MARK, "description": MARK });
    let (status, other) = stack.post("/api/tenants", &stack.admin(), &body).await;
    assert_eq!(status, 201, "{other}");
    let other: Uuid = other["id"].as_str().unwrap().parse().unwrap();
    let message = json!({ "messages": [{ "payload": MARK }] });
    let (status, answer) = stack
        .post(
            &format!("/api/tenants/{other}/messages"),
            &stack.admin(),
            &message,
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[own], 5, 64).await.unwrap();
    stack.stored(common::id::TenantId(other), 1).await;
    let gone = stack.tenant("gone").await;
    let (status, answer) = stack
        .delete(&format!("/api/tenants/{gone}"), &stack.admin())
        .await;
    assert_eq!(status, 200, "{answer}");

    let callers = callers::all(&stack, own.0, gone.0).await;
    let targets = [
        Target::Own(own.0),
        Target::Other(other),
        Target::Absent(Uuid::now_v7()),
    ];
    let mut wrong = Vec::new();
    for cell in cells(&callers, &targets, gone.0) {
        wrong.extend(rest::try_all(&stack, &cell).await);
        wrong.extend(grpc::try_all(&stack, &cell).await);
    }
    assert!(
        wrong.is_empty(),
        "{} cells are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What is wrong with an answer, if anything is.
fn judge(what: &str, method: &Method, cell: &Cell<'_>, answer: Answer, body: &[u8]) -> Option<String> {
    let Cell { caller, target } = cell;
    let expected = method.expected(caller, *target);
    let of_a_tenant = caller.role.is_none_or(Role::is_of_a_tenant);
    let tells = of_a_tenant && body.windows(MARK.len()).any(|window| window == MARK.as_bytes());
    if (answer == expected || expected == Answer::Any) && !tells {
        return None;
    }
    let leak = if tells {
        ", and it tells of the other tenant"
    } else {
        ""
    };
    let said = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    Some(format!(
        "{what} by {} for {target:?}: {answer:?}, not {expected:?}{leak}: {said}",
        caller.what
    ))
}
