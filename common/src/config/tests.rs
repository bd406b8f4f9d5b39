use std::io::Write as _;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Program {
    workers: u32,
    listen: String,
    endpoints: Vec<String>,
    database: Database,
    shutdown: Shutdown,
}

impl Config for Program {
    const SECRETS: &[&str] = &["database.url"];
    const FOREIGN: &[&str] = &["auth.secret", "auth.secret_file", "auth.issuer", "capacity"];

    fn validate(&self) -> Result<(), Error> {
        if self.workers > 256 {
            return Err(Error::key("workers", "must be 256 at most"));
        }
        Ok(())
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = file("workers: 3\nlisten: from-file\ndatabase: { max_connections: 4 }\n");
    let variables = env(&[
        ("JALUR_LISTEN", "from-env"),
        ("JALUR_DATABASE__URL", "postgres://h/d"),
        ("PATH", "x"),
    ]);
    let flags = env(&[("listen", "from-flag")]);
    let config: Program = load(Some(file.path()), variables, &flags).unwrap();
    assert_eq!(config.workers, 3);
    assert_eq!(config.listen, "from-flag");
    assert_eq!(config.database.max_connections, 4);
    assert_eq!(config.database.url.expose(), "postgres://h/d");
    assert_eq!(config.shutdown.grace.as_secs(), 30);
}

#[test]
fn an_unknown_key_is_named_wherever_it_stands() {
    let in_file = file("database: { uri: x }\n");
    let error = load::<Program>(Some(in_file.path()), [], &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("database.uri") && error.contains("max_connections, schema_url, url"),
        "{error}"
    );
    let error = load::<Program>(None, env(&[("JALUR_DATABASE__URI", "x")]), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("database.uri") && error.contains("JALUR_DATABASE__URI"),
        "{error}"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    let in_file = file("database: { max_connections: many }\n");
    let error = load::<Program>(Some(in_file.path()), [], &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("database.max_connections"), "{error}");
    let error = load::<Program>(None, env(&[("JALUR_SHUTDOWN__GRACE", "soon")]), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("shutdown.grace") && error.contains("30s"),
        "{error}"
    );
    let error = load::<Program>(None, env(&[("JALUR_WORKERS", "257")]), &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("workers"), "{error}");
}

#[test]
fn a_secret_comes_from_a_file_and_is_never_shown() {
    let secret = file("postgres://u:hunter2@h/d\n");
    let path = secret.path().to_str().unwrap();
    let config: Program = load(None, env(&[("JALUR_DATABASE__URL_FILE", path)]), &[]).unwrap();
    assert_eq!(config.database.url.expose(), "postgres://u:hunter2@h/d");
    assert!(!serde_yaml::to_string(&config).unwrap().contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let error = load::<Program>(None, env(&[("JALUR_DATABASE__URL_FILE", "/nowhere")]), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("database.url_file") && error.contains("/nowhere"),
        "{error}"
    );
}

#[test]
fn text_stays_text_and_lists_are_split_at_commas() {
    let config: Program = load(
        None,
        env(&[("JALUR_LISTEN", "123"), ("JALUR_ENDPOINTS", "a, b")]),
        &[],
    )
    .unwrap();
    assert_eq!(config.listen, "123");
    assert_eq!(config.endpoints, ["a", "b"]);
}

#[test]
fn the_local_stacks_variables_are_no_configuration() {
    load::<Program>(None, env(&[("JALUR_URL", "x"), ("JALUR_DATABASE_URL", "y")]), &[]).unwrap();
}

#[test]
fn the_other_programs_keys_are_passed_over_and_nobodys_are_not() {
    let shared = file("workers: 3\nauth: { secret: x, issuer: y }\ncapacity: [1, 2]\n");
    let variables = env(&[
        ("JALUR_AUTH__SECRET_FILE", "/nowhere"),
        ("JALUR_CAPACITY", "none"),
        ("JALUR_CONTROL_PLANE_SERVICE_HOST", "10.0.0.1"),
        ("JALUR_PORT", "tcp://10.0.0.1:8080"),
    ]);
    let config: Program = load(Some(shared.path()), variables, &[]).unwrap();
    assert_eq!(config.workers, 3);
    load::<Program>(Some(file("auth:\n").path()), [], &[]).unwrap();
    for (text, named) in [
        ("auth: { secrets: x }", "auth.secrets"),
        ("aut:", "aut"),
        ("auth: x", "auth"),
    ] {
        let error = load::<Program>(Some(file(text).path()), [], &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains(named), "{error}");
    }
    for name in ["JALUR_AUTH__SECRETS", "JALUR_PORT", "JALUR_AUTH"] {
        let error = load::<Program>(None, env(&[(name, "x")]), &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains(name), "{error}");
    }
    // A flag is given to this program.
    let error = load::<Program>(None, [], &env(&[("capacity", "1")]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("capacity"), "{error}");
}
