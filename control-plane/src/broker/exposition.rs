//! The text of RabbitMQ's Prometheus plugin, as far as it counts tenants' messages.

use std::borrow::Cow;

use common::id::TenantId;

/// Waiting in a queue, or delivered and not acknowledged.
const MESSAGES: &str = "rabbitmq_detailed_queue_messages{";

/// Which of a tenant's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Messages,
    DeadLetters,
}

/// What a line says of a tenant's queue in `vhost`; nothing if it is of something else.
pub(super) fn count(line: &str, vhost: &str) -> Option<(TenantId, Whose, u32)> {
    let (labels, value) = labels(line.strip_prefix(MESSAGES)?)?;
    let of = |name| {
        labels
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    if of("vhost")? != vhost {
        return None;
    }
    let (tenant, whose) = queue(of("queue")?)?;
    // Every sample is a floating-point number.
    let value: f64 = value.trim().parse().ok()?;
    let counts = (0.0..=f64::from(u32::MAX)).contains(&value);
    counts.then_some((tenant, whose, value as u32))
}

/// Whose queue has that name.
fn queue(name: &str) -> Option<(TenantId, Whose)> {
    let id: TenantId = name.strip_prefix("tenant_")?.split('_').next()?.parse().ok()?;
    // The id may be written in other ways, and is not in the names that we give.
    if name == id.queue() {
        Some((id, Whose::Messages))
    } else if name == id.dead_letter_queue() {
        Some((id, Whose::DeadLetters))
    } else {
        None
    }
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The labels up to the closing brace, and what comes after it. A name of somebody else's queue may hold anything.
fn labels(text: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (key, quoted) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = quoted.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        })?;
        let (value, after) = quoted.split_at(end);
        labels.push((key, unescaped(value)));
        rest = &after[1..];
    }
}

fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return value.into();
    }
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('n') => text.push('\n'),
                other => text.extend(other),
            },
            (character, false) => text.push(character),
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const TENANT: TenantId = TenantId(Uuid::from_u128(0x0191_0000_0000_7000_8000_0000_0000_0001));

    #[test]
    fn what_waits_in_tenants_queues_is_read_and_nothing_else() {
        let read = |line: &str| count(line, "v");
        let queue = TENANT.queue();
        let letters = TENANT.dead_letter_queue();
        let sample = |labels: String| format!("rabbitmq_detailed_queue_messages{labels}");
        assert_eq!(
            read(&sample(format!(r#"{{vhost="v",queue="{queue}"}} 12"#))),
            Some((TENANT, Whose::Messages, 12))
        );
        assert_eq!(
            read(&sample(format!(
                r#"{{queue="{letters}",vhost="v",more="x"}} 3.0 1700000000"#
            ))),
            None,
            "a time after the value is nothing that the plugin writes"
        );
        assert_eq!(
            read(&sample(format!(
                r#"{{queue="{letters}",more="x",vhost="v"}} 1e3"#
            ))),
            Some((TENANT, Whose::DeadLetters, 1_000))
        );
        for other in [
            String::new(),
            "# TYPE rabbitmq_detailed_queue_messages gauge".into(),
            format!(r#"rabbitmq_detailed_queue_messages_ready{{vhost="v",queue="{queue}"}} 12"#),
            sample(format!(r#"{{vhost="w",queue="{queue}"}} 12"#)),
            sample(r#"{vhost="v",queue="orders"} 12"#.into()),
            sample(r#"{vhost="v",queue="tenant_x_queue"} 12"#.into()),
            sample(format!(
                r#"{{vhost="v",queue="tenant_{}_queue"}} 12"#,
                TENANT.0.simple()
            )),
            sample(format!(r#"{{vhost="v",queue="{queue}"}} undefined"#)),
            sample(format!(r#"{{vhost="v",queue="{queue}"}} -1"#)),
            sample(format!(r#"{{vhost="v",queue="{queue}"#)),
        ] {
            assert_eq!(read(&other), None, "{other}");
        }
    }

    #[test]
    fn a_name_that_looks_like_labels_is_a_name() {
        let queue = TENANT.queue();
        let line =
            format!(r#"rabbitmq_detailed_queue_messages{{vhost="v",queue="\\\",queue=\"{queue}"}} 12"#);
        assert_eq!(count(&line, "v"), None);
        let line = format!(r#"rabbitmq_detailed_queue_messages{{vhost="a\"\\b\nc",queue="{queue}"}} 12"#);
        assert_eq!(count(&line, "a\"\\b\nc"), Some((TENANT, Whose::Messages, 12)));
    }
}
