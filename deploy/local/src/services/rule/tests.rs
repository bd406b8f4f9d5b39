use super::*;

fn found() -> Tool {
    Tool::Found(vec![Installed {
        folder: "/bin".into(),
        version: (15, 0),
    }])
}

fn native() -> Facts {
    Facts {
        postgres: found(),
        rabbitmq: found(),
        ..Facts::default()
    }
}

fn external() -> Facts {
    Facts {
        database_url: Some("postgres://h/d".into()),
        rabbitmq_url: Some("amqp://h".into()),
        ..Facts::default()
    }
}

#[test]
fn what_the_user_names_comes_first() {
    let facts = Facts {
        docker: true,
        postgres: found(),
        rabbitmq: found(),
        ..external()
    };
    let expected = Branch::External {
        database: "postgres://h/d".into(),
        rabbitmq: "amqp://h".into(),
    };
    assert_eq!(decide(&facts), Ok(expected));
}

#[test]
fn one_url_alone_is_not_external_and_is_remarked_on() {
    let facts = Facts {
        rabbitmq_url: None,
        ..Facts {
            postgres: found(),
            rabbitmq: found(),
            ..external()
        }
    };
    assert_eq!(decide(&facts), Ok(Branch::Native));
    assert!(notes(&facts)[0].contains("JALUR_RABBITMQ__URL is not"));
}

#[test]
fn native_comes_before_docker_and_docker_before_apt() {
    assert_eq!(
        decide(&Facts {
            docker: true,
            ..native()
        }),
        Ok(Branch::Native)
    );
    let facts = Facts {
        docker: true,
        apt: true,
        root: true,
        ..Facts::default()
    };
    assert_eq!(decide(&facts), Ok(Branch::Docker));
}

#[test]
fn a_kind_can_be_forced() {
    let all = Facts {
        docker: true,
        postgres: found(),
        rabbitmq: found(),
        ..external()
    };
    let forced = |kind| {
        decide(&Facts {
            forced: Some(kind),
            ..all.clone()
        })
    };
    assert!(matches!(forced(Kind::External), Ok(Branch::External { .. })));
    assert_eq!(forced(Kind::Native), Ok(Branch::Native));
    assert_eq!(forced(Kind::Docker), Ok(Branch::Docker));
}

#[test]
fn a_forced_kind_that_is_not_there_is_an_error() {
    let error = |kind| {
        decide(&Facts {
            forced: Some(kind),
            ..Facts::default()
        })
        .unwrap_err()
        .to_string()
    };
    assert!(error(Kind::External).contains("JALUR_DATABASE__URL"));
    assert!(error(Kind::Docker).contains("DOCKER_HOST"));
    assert!(error(Kind::Native).contains("Any of these will do"));
}

#[test]
fn only_what_is_missing_is_installed() {
    let facts = Facts {
        postgres: found(),
        apt: true,
        root: true,
        ..Facts::default()
    };
    let expected = Branch::Install {
        packages: vec!["rabbitmq-server"],
        consent: Consent::Root,
    };
    assert_eq!(decide(&facts), Ok(expected));
}

#[test]
fn who_is_no_root_is_asked_unless_it_is_ci() {
    let consent = |ci, terminal| match decide(&Facts {
        apt: true,
        ci,
        terminal,
        ..Facts::default()
    }) {
        Ok(Branch::Install { consent, .. }) => Some(consent),
        _ => None,
    };
    assert_eq!(consent(true, true), Some(Consent::Sudo));
    assert_eq!(consent(false, true), Some(Consent::Ask));
    assert_eq!(consent(false, false), None);
}

#[test]
fn apt_is_not_asked_to_replace_what_is_too_old() {
    let postgres = Tool::TooOld("PostgreSQL 12.1".into());
    let facts = Facts {
        postgres,
        apt: true,
        root: true,
        ..Facts::default()
    };
    assert!(decide(&facts).is_err());
    assert!(notes(&facts)[0].contains("PostgreSQL 12.1 is too old"));
}

#[test]
fn the_error_names_three_ways_out() {
    let error = decide(&Facts {
        apt: true,
        ..Facts::default()
    })
    .unwrap_err()
    .to_string();
    for way in [
        "apt-get install postgresql rabbitmq-server",
        "DOCKER_HOST",
        "JALUR_RABBITMQ__URL",
    ] {
        assert!(error.contains(way), "{error}");
    }
}
