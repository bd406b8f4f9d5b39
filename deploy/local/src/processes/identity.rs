//! Telling a process from a later one that got the same pid.

use std::process::{Command, Stdio};

/// When the process `pid` started, in a form that only serves to compare: with the pid it names one process. `None`
/// if there is no such process, or none any more but for its exit status.
pub(super) fn started(pid: i32) -> Option<String> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => from_stat(&stat),
        Err(_) if cfg!(target_os = "linux") => None,
        Err(_) => from_ps(pid),
    }
}

/// proc(5): the state is the first field after the name, which is in parentheses and may hold anything; the start
/// time, in ticks since boot, the twentieth.
fn from_stat(stat: &str) -> Option<String> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

fn from_ps(pid: i32) -> Option<String> {
    let output = Command::new("ps")
        .args(["-o", "stat=,lstart=", "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (state, started) = text.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| started.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
        assert_eq!(from_stat(stat).as_deref(), Some("98765"));
    }

    #[test]
    fn what_has_ended_has_no_identity() {
        let zombie = "42 (sh) Z 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
        assert_eq!(from_stat(zombie), None);
        assert_eq!(started(i32::MAX), None);
    }

    #[test]
    fn a_living_process_keeps_its_identity() {
        let own = std::process::id().cast_signed();
        assert!(started(own).is_some());
        assert_eq!(started(own), started(own));
    }
}
