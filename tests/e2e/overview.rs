//! What is told of all tenants at once, by lists and by metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{Router, routing::get};
use common::id::TenantId;
use lapin::BasicProperties;
use serde_json::{Value, json};
use tests::load::Publisher;
use tokio::net::TcpListener;

use crate::support::{Options, Stack, eventually};

/// Read as often as a test likes.
const OFTEN: (&str, &str) = ("JALUR_DEPTH_INTERVAL", "200ms");
/// The metrics of the whole system, which one control plane tells.
const SYSTEM: [&str; 7] = [
    "jalur_queue_depth{",
    "jalur_dead_letters{",
    "jalur_stored_total{",
    "jalur_tenants{",
    "jalur_daemons{",
    "jalur_assignments{",
    "jalur_problems{",
];
const GUIDE: &str = include_str!("../../docs/prometheus-metrics-guide.md");

fn often() -> Options {
    Options {
        control_plane_env: vec![(OFTEN.0, OFTEN.1.into())],
        ..Options::default()
    }
}

async fn list(stack: &Stack, query: &str) -> Vec<Value> {
    let (status, page) = stack.get(&format!("/api/tenants?{query}"), &stack.admin()).await;
    assert_eq!(status, 200, "{page}");
    page["tenants"].as_array().unwrap().clone()
}

async fn names(stack: &Stack, query: &str) -> Vec<String> {
    let tenants = list(stack, query).await;
    tenants
        .iter()
        .map(|tenant| tenant["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until the list says of a tenant's runtime what is wanted, and answers that.
async fn runtime(stack: &Stack, tenant: TenantId, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut runtime = Value::Null;
    eventually(what, async || {
        let tenants = list(stack, "").await;
        let listed = tenants
            .iter()
            .find(|listed| listed["id"] == json!(tenant.to_string()));
        runtime = listed.unwrap()["runtime"].clone();
        wanted(&runtime)
    })
    .await;
    runtime
}

#[tokio::test]
async fn a_list_tells_what_runs_for_each_tenant_and_the_guide_names_every_metric() {
    let stack = Stack::start(often()).await;
    let [busy, paused] = [stack.tenant("busy").await, stack.tenant("paused").await];
    let pause = json!({ "status": "paused" });
    let path = format!("/api/tenants/{paused}");
    assert_eq!(stack.patch(&path, &stack.admin(), &pause).await.0, 200);

    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[paused], 5, 64).await.unwrap();
    let poison = BasicProperties::default().with_delivery_mode(2);
    publisher.send_one(busy, b"no json", poison).await.unwrap();
    runtime(&stack, paused, "five wait", |runtime| runtime["queue_depth"] == 5).await;
    let at_rest = runtime(&stack, busy, "a dead letter, and rest", |runtime| {
        runtime["dead_letters"] == 1 && runtime["queue_depth"] == 0 && runtime["stored_per_second"] == 0
    })
    .await;
    let consumer = json!([{ "daemon": "ingest-daemon-1", "workers": 3, "busy": 0 }]);
    assert_eq!(
        (&at_rest["consumers"], &at_rest["problem"]),
        (&consumer, &Value::Null)
    );

    let load = async {
        loop {
            publisher.send(&[busy], 20, 64).await.unwrap();
        }
    };
    tokio::select! {
        () = load => {}
        _ = runtime(&stack, busy, "a rate", |runtime| runtime["stored_per_second"].as_f64() > Some(1.0)) => {}
    }
    let (_, alone) = stack.get(&format!("/api/tenants/{busy}"), &stack.admin()).await;
    assert!(alone["runtime"]["stored_per_second"].is_number(), "{alone}");

    let locked = stack.lock_table(busy).await;
    publisher.send(&[busy], 1, 64).await.unwrap();
    let troubled = runtime(&stack, busy, "its problem", |runtime| {
        runtime["problem"]["kind"] == "table"
    })
    .await;
    assert!(troubled["problem"]["since"].is_string(), "{troubled}");
    let daemon = stack.daemon().metrics().await.unwrap();
    assert!(daemon.contains(r#"jalur_holds{cause="table"} 1"#), "{daemon}");
    let age = format!(r#"jalur_oldest_unstored_seconds{{tenant_id="{busy}"}} "#);
    let age: f64 = daemon
        .split(&age)
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(age > 0.0, "{daemon}");
    locked.rollback().await.unwrap();
    runtime(&stack, busy, "no problem", |runtime| runtime["problem"].is_null()).await;

    the_guide_names_every_metric(&stack, busy).await;
}

/// What each program shows: a metric's name and type.
type Shown = BTreeMap<&'static str, BTreeSet<(String, String)>>;

async fn the_guide_names_every_metric(stack: &Stack, tenant: TenantId) {
    let workers = json!({ "workers": 5 });
    let path = format!("/api/tenants/{tenant}/config/concurrency");
    assert_eq!(
        stack.put(&path, &stack.admin(), &workers).await.1["applied"],
        true
    );
    let control_plane = stack.control_plane_metrics_with("jalur_queue_depth{").await;
    let daemon = stack.daemon().metrics().await.unwrap();
    let mut shown = Shown::new();
    for (program, text) in [("control plane", control_plane), ("daemon", daemon)] {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types = types.filter_map(|line| line.split_once(' '));
        let types = types.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
        shown.insert(program, types.collect());
    }
    assert_eq!(guide(), shown, "what the guide says, and what is shown");
}

/// What the guide's tables say: a metric in backticks with its labels, its type, and who shows it.
fn guide() -> Shown {
    let mut told = Shown::new();
    for row in GUIDE.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (metric, cells) = row.split_once("` | ").unwrap();
        let name = metric.split('{').next().unwrap();
        let cells: Vec<_> = cells.split(" | ").collect();
        for program in ["control plane", "daemon"] {
            if cells[1] == program || cells[1] == "both" {
                let metric = (name.to_owned(), cells[0].to_owned());
                told.entry(program).or_default().insert(metric);
            }
        }
    }
    told
}

#[tokio::test]
async fn a_list_is_of_those_whose_name_or_status_is_asked_for_and_depths_are_the_plugins() {
    let (plugin, says) = plugin().await;
    let mut options = Options {
        daemons: 0,
        ..often()
    };
    options
        .control_plane_env
        .push(("JALUR_RABBITMQ__PROMETHEUS_URL", plugin));
    let stack = Stack::start(options).await;
    for (name, status) in [
        ("Ärger AG", "active"),
        ("acme_billing", "paused"),
        ("acme orders", "active"),
        ("100% Acme", "paused"),
    ] {
        let body = json!({ "name": name, "status": status });
        assert_eq!(stack.post("/api/tenants", &stack.admin(), &body).await.0, 201);
    }
    for (query, wanted) in [
        (
            "name=",
            &["Ärger AG", "acme_billing", "acme orders", "100% Acme"][..],
        ),
        ("name=ACME", &["acme_billing", "acme orders", "100% Acme"]),
        ("name=%C3%A4RGER", &["Ärger AG"]),
        // Neither is a wildcard.
        ("name=e_", &["acme_billing"]),
        ("name=0%25", &["100% Acme"]),
        ("name=%5C", &[]),
        ("status=paused", &["acme_billing", "100% Acme"]),
        ("status=active&name=acme", &["acme orders"]),
    ] {
        assert_eq!(names(&stack, query).await, wanted, "{query}");
    }
    let (_, first) = stack
        .get("/api/tenants?name=acme&page_size=2", &stack.admin())
        .await;
    let token = first["next_page_token"].as_str().unwrap();
    let rest = format!("name=acme&page_size=2&page_token={token}");
    assert_eq!(names(&stack, &rest).await, ["100% Acme"]);

    let id = first["tenants"][0]["id"].as_str().unwrap();
    let renamed = json!({ "name": "ÖLMÜHLE" });
    let path = format!("/api/tenants/{id}");
    assert_eq!(stack.patch(&path, &stack.admin(), &renamed).await.0, 200);
    assert_eq!(names(&stack, "name=%C3%B6lm%C3%BChle").await, ["ÖLMÜHLE"]);

    for (query, says) in [
        ("status=creating".to_owned(), "\"active\", \"paused\""),
        ("status=living".to_owned(), "\"active\", \"paused\""),
        (format!("name={}", "a".repeat(201)), "200 characters"),
        ("name=%00".to_owned(), "null character"),
    ] {
        let (status, error) = stack.get(&format!("/api/tenants?{query}"), &stack.admin()).await;
        let message = error["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(says), "{query}: {error}");
    }

    // The plugin knew no queue so far, so each was counted by itself.
    let tenant: TenantId = id.parse().unwrap();
    runtime(&stack, tenant, "its depth", |runtime| runtime["queue_depth"] == 0).await;
    let vhost = stack.amqp_url().rsplit('/').next().unwrap();
    let line = |queue: String, count| {
        format!("rabbitmq_detailed_queue_messages{{vhost=\"{vhost}\",queue=\"{queue}\"}} {count}\n")
    };
    *says.lock().unwrap() = line(tenant.queue(), 12_345) + &line(tenant.dead_letter_queue(), 6);
    let told = runtime(&stack, tenant, "what the plugin says", |runtime| {
        runtime["queue_depth"] == 12_345
    })
    .await;
    assert_eq!(told["dead_letters"], 6);
    let (_, alone) = stack.get(&path, &stack.admin()).await;
    assert_eq!(
        alone["runtime"]["queue_depth"], 0,
        "one tenant's is that of the moment: {alone}"
    );
}

/// A plugin that says what the test has it say: its URL, and that.
async fn plugin() -> (String, Arc<Mutex<String>>) {
    let says = Arc::new(Mutex::new(String::new()));
    let said = Arc::clone(&says);
    let serve = get(async move || said.lock().unwrap().clone());
    let router = Router::new().route("/metrics/detailed", serve);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, says)
}

#[tokio::test]
async fn where_a_service_is_away_only_what_it_says_is_missing() {
    let test = "where_a_service_is_away_only_what_it_says_is_missing";
    let Some(stack) = Stack::start_alone(test, often()).await else {
        return;
    };
    let tenant = stack.tenant("t").await;
    runtime(&stack, tenant, "its depth", |runtime| runtime["queue_depth"] == 0).await;
    stack.control_plane_metrics_with("jalur_queue_depth{").await;

    stack.stop_rabbitmq().await;
    let without = runtime(&stack, tenant, "no depth", |runtime| {
        runtime["queue_depth"].is_null()
    })
    .await;
    assert!(without["dead_letters"].is_null(), "{without}");
    assert!(without["stored_per_second"].is_number(), "{without}");
    let control_plane = stack.control_plane_metrics_with("jalur_broker_up 0").await;
    for wanted in [
        "jalur_database_up 1",
        r#"jalur_tenants{status="active"} 1"#,
        "jalur_stored_total{",
    ] {
        assert!(
            control_plane.contains(wanted),
            "{wanted} is not in\n{control_plane}"
        );
    }
    for missing in ["jalur_queue_depth{", "jalur_dead_letters{"] {
        assert!(
            !control_plane.contains(missing),
            "{missing} is in\n{control_plane}"
        );
    }

    stack.stop_postgres().await;
    let control_plane = stack.control_plane_metrics_with("jalur_database_up 0").await;
    for missing in SYSTEM {
        assert!(
            !control_plane.contains(missing),
            "{missing} is in\n{control_plane}"
        );
    }
    eventually("the daemon says so, too", async || {
        let daemon = stack.daemon().metrics().await.unwrap();
        daemon.contains("jalur_database_up 0") && daemon.contains("jalur_broker_up 0")
    })
    .await;
}

#[tokio::test]
async fn of_several_control_planes_one_tells_the_systems_metrics_and_all_list_depths() {
    let mut options = Options {
        control_planes: 2,
        ..often()
    };
    // Without the plugin queues are counted one by one.
    let plugin = ("JALUR_RABBITMQ__PROMETHEUS_URL", String::new());
    options.control_plane_env.push(plugin);
    let stack = Stack::start(options).await;
    let tenant = stack.tenant("t").await;
    let path = format!("/api/tenants/{tenant}");
    let paused = stack
        .patch(&path, &stack.admin(), &json!({ "status": "paused" }))
        .await;
    assert_eq!(paused.0, 200);
    Publisher::new(stack.amqp_url())
        .send(&[tenant], 7, 64)
        .await
        .unwrap();

    let members = ["control-plane-1", "control-plane-2"].map(|name| stack.member(name));
    let tells = async |at: usize| -> bool {
        let metrics = members[at].metrics().await.unwrap();
        let told = SYSTEM.map(|name| metrics.contains(name));
        assert!(metrics.contains("jalur_database_up 1"), "{metrics}");
        told == [true; 7]
    };
    let mut teller = 0;
    eventually("one tells them", async || {
        for at in [0, 1] {
            if tells(at).await {
                teller = at;
                return true;
            }
        }
        false
    })
    .await;
    let metrics = members[1 - teller].metrics().await.unwrap();
    let told: Vec<_> = SYSTEM.iter().filter(|name| metrics.contains(**name)).collect();
    assert!(told.is_empty(), "{told:?} are told twice");

    for member in members {
        let rest = stack.rest_of(member);
        eventually("every control plane lists what waits", async || {
            let page = rest.get("/api/tenants").await.unwrap().json;
            page["tenants"][0]["runtime"]["queue_depth"] == 7
        })
        .await;
    }

    members[teller].kill().await;
    eventually("the other one tells them", async || tells(1 - teller).await).await;
}
