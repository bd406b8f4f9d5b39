//! PostgreSQL with a role that owns the tables and one that uses them, as `docs/deployment.md` says.

use common::id::TenantId;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tests::{Environment, Options, Rest, Stack, load::Publisher};
use url::Url;

use crate::support::eventually;

const DOCUMENT: &str = include_str!("../../docs/deployment.md");

/// The document's statements, with this database for the one that it makes.
fn statements(database: &str) -> Vec<String> {
    let blocks = DOCUMENT.split("```sql\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let statements = blocks.flat_map(|block| block.split(';').map(str::trim));
    let statements = statements.filter(|statement| !statement.is_empty());
    let here = |statement: &str| {
        let own = format!("alter database {database} owner to");
        statement.replace("create database jalur owner", &own)
    };
    statements.map(here).collect()
}

fn as_role(url: &str, role: &str, password: &str) -> String {
    let mut url = Url::parse(url).unwrap();
    url.set_username(role).unwrap();
    url.set_password(Some(password)).unwrap();
    url.into()
}

/// A stack whose programs own nothing, on services of its own: roles are a whole server's. `None` where there are none.
async fn stack(test: &str) -> Option<Stack> {
    let environment = Environment::private(test).await.unwrap()?;
    let nobody = Options {
        control_planes: 0,
        daemons: 0,
        ..Options::default()
    };
    let mut stack = Stack::start_in(environment, nobody).await.unwrap();
    let database = Url::parse(stack.database_url()).unwrap().path()[1..].to_owned();
    // Made anew, by its owner.
    let mut setup = vec![
        "drop schema public cascade".to_owned(),
        "create schema public".to_owned(),
    ];
    setup.extend(statements(&database));
    let mut superuser = PgConnection::connect(stack.database_url()).await.unwrap();
    for statement in setup {
        superuser.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    superuser.close().await.unwrap();
    let url = as_role(stack.database_url(), "jalur_app", "APP_PASSWORD");
    let schema_url = as_role(stack.database_url(), "jalur_owner", "OWNER_PASSWORD");
    stack.configure("JALUR_DATABASE__URL", url);
    stack.configure("JALUR_DATABASE__SCHEMA_URL", schema_url);
    let migrated = stack.control_plane_command(&["migrate", "up"]).await.unwrap();
    let said = String::from_utf8_lossy(&migrated.stderr).into_owned();
    assert!(migrated.status.success(), "{said}");
    stack.add_control_plane().await.unwrap();
    stack.add_daemon().await.unwrap();
    Some(stack)
}

async fn app(stack: &Stack) -> PgConnection {
    let url = as_role(stack.database_url(), "jalur_app", "APP_PASSWORD");
    PgConnection::connect(&url).await.unwrap()
}

async fn tenant(rest: &Rest, name: &str) -> TenantId {
    let tenant = rest.post("/api/tenants", &json!({ "name": name })).await.unwrap();
    let tenant = tenant.expect(201).unwrap();
    tenant["id"].as_str().unwrap().parse().unwrap()
}

async fn read(rest: &Rest, tenant: TenantId) -> usize {
    let page = rest
        .get(&format!("/api/tenants/{tenant}/messages"))
        .await
        .unwrap();
    page.expect(200).unwrap()["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn programs_that_own_nothing_do_everything_and_can_break_nothing() {
    let Some(stack) = stack("programs that own nothing").await else {
        return;
    };
    let rest = stack.rest().unwrap();
    let (one, other) = (tenant(&rest, "one").await, tenant(&rest, "other").await);
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[one, other], 100, 64).await.unwrap();
    for tenant in [one, other] {
        eventually("its messages are stored", async || {
            read(&rest, tenant).await == 50
        })
        .await;
    }
    let path = format!("/api/tenants/{one}/config/retention");
    let kept = rest.put(&path, &json!({ "max_messages": 20 })).await.unwrap();
    kept.expect(200).unwrap();
    eventually("what is too much is removed", async || {
        read(&rest, one).await == 20
    })
    .await;
    let deleted = rest.delete(&format!("/api/tenants/{other}")).await.unwrap();
    deleted.expect(200).unwrap();
    let partition = format!("messages_{}", other.0.simple());
    let there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(&partition)
        .fetch_one(stack.database())
        .await
        .unwrap();
    assert!(!there, "{partition}");

    let mut app = app(&stack).await;
    let owned: i64 =
        sqlx::query_scalar("select count(*) from pg_class where relowner = 'jalur_app'::regrole")
            .fetch_one(&mut app)
            .await
            .unwrap();
    assert_eq!(owned, 0);
    for statement in [
        "truncate messages".to_owned(),
        "drop table tenants".to_owned(),
        "alter table messages disable row level security".to_owned(),
        "create table mine ()".to_owned(),
        format!("drop table messages_{}", one.0.simple()),
    ] {
        let refused = app.execute(AssertSqlSafe(statement.clone())).await.unwrap_err();
        let code = refused
            .as_database_error()
            .and_then(|error| error.code())
            .unwrap_or_default();
        assert_eq!(code, "42501", "{statement}: {refused}");
    }
}

#[tokio::test]
async fn a_session_of_one_tenant_sees_nothing_of_another_whatever_it_asks() {
    let Some(stack) = stack("row-level security").await else {
        return;
    };
    let rest = stack.rest().unwrap();
    let (one, other) = (tenant(&rest, "one").await, tenant(&rest, "other").await);
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[one, other], 40, 64).await.unwrap();
    for tenant in [one, other] {
        eventually("its messages are stored", async || {
            read(&rest, tenant).await == 20
        })
        .await;
    }

    // The same connections serve both in turn, with plans of the first times and those of later ones.
    for round in 0..20 {
        assert_eq!(
            (read(&rest, one).await, read(&rest, other).await),
            (20, 20),
            "{round}"
        );
    }

    let mut app = app(&stack).await;
    let mut seen = async |tenant: &str| -> (i64, i64) {
        let set = sqlx::query("select set_config('jalur.tenant', $1, false)").bind(tenant);
        set.execute(&mut app).await.unwrap();
        sqlx::query_as("select count(*), count(*) filter (where tenant_id = $1) from messages")
            .bind(other.0)
            .fetch_one(&mut app)
            .await
            .unwrap()
    };
    assert_eq!(seen("").await, (40, 20), "the system's own");
    assert_eq!(seen(&one.to_string()).await, (20, 0));
    assert_eq!(seen(&other.to_string()).await, (20, 20));
    assert_eq!(
        seen(&uuid::Uuid::nil().to_string()).await,
        (0, 0),
        "a request of nobody's"
    );

    // Whose session reads: no other than the caller's, whichever the connection was before.
    for tenant in [one, other, one] {
        assert_eq!(read(&rest, tenant).await, 20);
    }
    let forced: bool =
        sqlx::query_scalar("select relforcerowsecurity from pg_class where oid = 'messages'::regclass")
            .fetch_one(stack.database())
            .await
            .unwrap();
    assert!(forced, "the owner, too, is held to it");
}
