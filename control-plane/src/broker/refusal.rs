//! Why the broker does not declare a queue, read off what it says.

use common::broker;

/// The reply codes of what may not be done, of a queue that is not there, that is another connection's alone, and that
/// is another one than was asked for.
pub(super) const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const LOCKED: u16 = 405;
pub(super) const DIFFERS: u16 = 406;
/// RabbitMQ failed inside, and has closed the connection over it.
const FAILED: u16 = 541;

/// Why the broker does not declare a queue, where that is the queue's matter and not the connection's.
pub(super) enum Refusal {
    /// It is another one than was asked for, in this.
    Differs(String),
    /// It cannot be had.
    Impossible {
        /// Why, and what to do.
        detail: String,
        /// Whether it was everybody's connection that was closed over it.
        costly: bool,
    },
}

/// Why a queue of this name was not declared.
pub(super) fn of(error: &broker::Error, queue: &str) -> Option<Refusal> {
    of_code(error.reply_code()?, &error.to_string(), queue)
}

fn of_code(code: u16, text: &str, queue: &str) -> Option<Refusal> {
    Some(match code {
        DIFFERS if text.contains("inequivalent arg") => Refusal::Differs(difference(text)),
        DIFFERS if text.contains("limit") => impossible(
            "its limit of queues is reached; raise that (rabbitmqctl set_vhost_limits) or delete queues",
        ),
        DIFFERS => Refusal::Differs("the broker does not say in what".into()),
        LOCKED => impossible(
            "it is there, exclusive, and another connection's; close that connection or have it use another name",
        ),
        ACCESS_REFUSED => impossible(
            "its user may not do that; grant it configure, write and read (rabbitmqctl set_permissions)",
        ),
        NOT_FOUND => impossible(
            "it is there, but its node is down or its process has failed; bring the node back, or delete the queue",
        ),
        // Whoever else asks for something on the connection is told the same.
        FAILED if text.contains(&format!("'{queue}'")) => {
            let why = text.rsplit_once(": ").map_or(text, |(_, why)| why);
            Refusal::Impossible {
                detail: format!("it fails to ({why}); see its log, and restart the node if that goes on"),
                costly: true,
            }
        }
        _ => return None,
    })
}

fn impossible(detail: &str) -> Refusal {
    Refusal::Impossible {
        detail: detail.to_owned(),
        costly: false,
    }
}

/// What is different, out of the broker's `PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '…' in
/// vhost '/': received none but current is the value '10' of type 'signedint'`.
pub(super) fn difference(text: &str) -> String {
    let parse = || {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once('\'')?;
        let (received, current) = rest.split_once(": received ")?.1.split_once(" but current is ")?;
        let value = |text: &str| match text.split('\'').nth(1) {
            Some(value) => value.to_owned(),
            None => "none".to_owned(),
        };
        // Earlier versions of Jalur declared it so.
        let meaning = match (argument, value(current).as_str()) {
            ("x-delivery-limit", "-1") => {
                " (before RabbitMQ 4 a message is lost when it is given back to such a queue)"
            }
            _ => "",
        };
        Some(format!(
            "its {argument} is {}, and must be {}{meaning}",
            value(current),
            value(received)
        ))
    };
    parse().unwrap_or_else(|| "the broker does not say in what".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_inside_is_that_of_the_queue_that_is_named() {
        let text = "protocol error: AMQP hard error: INTERNAL-ERROR: INTERNAL_ERROR - Cannot declare quorum queue 'a_dlq' in \
                    vhost 'v' on node 'n@h' with leader on node 'n@h': cluster_not_formed";
        let Some(Refusal::Impossible { detail, costly: true }) = of_code(FAILED, text, "a_dlq") else {
            panic!("it is nobody's");
        };
        assert!(detail.contains("(cluster_not_formed)"), "{detail}");
        for other in ["a", "dlq", "b_dlq"] {
            assert!(of_code(FAILED, text, other).is_none(), "{other}");
        }
    }

    #[test]
    fn what_differs_is_said_in_our_words() {
        let text = |rest: &str| format!("PRECONDITION_FAILED - inequivalent arg {rest}");
        assert_eq!(
            difference(&text(
                "'x-max-length' for queue 'q' in vhost '/': received none but current is the value '10' of type 'signedint'"
            )),
            "its x-max-length is 10, and must be none"
        );
        assert_eq!(
            difference(&text(
                "'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'"
            )),
            "its durable is false, and must be true"
        );
        assert_eq!(
            difference(&text(
                "'x-queue-type' for queue 'q' in vhost 'v': received the value 'quorum' of type 'longstr' but current is none"
            )),
            "its x-queue-type is none, and must be quorum"
        );
        let limit = difference(&text(
            "'x-delivery-limit' for queue 'q' in vhost '/': received '1000000' but current is '-1'",
        ));
        assert!(
            limit.starts_with("its x-delivery-limit is -1, and must be 1000000 (before RabbitMQ 4"),
            "{limit}"
        );
        assert_eq!(difference("anything else"), "the broker does not say in what");
    }
}
